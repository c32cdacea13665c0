"""Making a backup while the box sells: log, erasable values, vault and settings, sealed as they are read.

Owns the order of what goes in. Must never hold up a sale: each page is a read transaction of its own, nothing is copied
beside the log but the small file of evidence, and memory stays flat however long the log is.

* The log only grows, so its first `size` entries are one moment, whatever is sold meanwhile. Tables are not backed up:
  they are made anew from the entries.
* Keys of persons, the vault and its keys are read after the values that they open: none of those lacks its key. What is
  erased meanwhile is gone from the backup too, or noise in it.
* The last record proves the rest: the log itself signed an entry that commits to every byte.

Source: docs/formats/backup.md.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.crypto.envelope import EnvelopeCipher
from appliance.crypto.hpke import Recipient
from appliance.ledger import backup_file
from appliance.ledger.backup_file import PIECE_BYTES, BackupHeader, BackupWriter
from appliance.ledger.database import connect_reader
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.pruned import EntryMissing, StoredLeaves, pruned_below, with_pruned
from appliance.ledger.reader import Reader
from appliance.ledger.snapshot import base_of, snapshot_file
from appliance.ledger.subject_keys import KEYS_FILE
from appliance.model.errors import Corrupt, Unavailable
from appliance.model.limits import SIGNATURE_WAIT_MS
from appliance.payment.vault.moving import take_out_keys, token_page
from appliance.ports.clock import Clock
from appliance.wire import backup_entries

REST_MS: Final = 2
"""Between two pages: sales come first."""
PAGE_ROWS: Final = 1_000
CHECKPOINT_FILE: Final = "checkpoint"
EVIDENCE_FILE: Final = "evidence.db"
STORE_KEY: Final = "store_key"

_T = TypeVar("_T")
_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSource:
    """Of what a backup is made, beside the log.

    Attributes:
        folder: of the log.
        files: those that the settings name, by the setting's place.
        settings: what of the settings belongs to the shop.
        store_key: that wraps the subject keys.
        checkpoint: the newest, signed by the log; None where its keys sign none.
    """

    folder: Path
    files: Callable[[], dict[str, Path]]
    settings: dict[str, Any]
    store_key: bytes
    cipher: EnvelopeCipher
    checkpoint: Callable[[], Awaitable[bytes]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """The head that the backup is of; `snapshot`: entries that the log's tables begin with, 0 where none was pruned."""

    size: int
    root: bytes
    pruned_below: int
    snapshot: int


class Backup:
    """Makes one backup at a time, to one recipient."""

    def __init__(self, *, ledger: Ledger, source: BackupSource, recipient: Recipient, clock: Clock) -> None:
        self._ledger = ledger
        self._source = source
        self._recipient = recipient
        self._clock = clock
        self._is_running = False

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes, to be written as they come; a file that lacks its end counts for nothing.

        Raises:
            Unavailable: `backup_running`; `signing_down`; `vault_closed`; `backup_interrupted`: the log was pruned in
                this moment; and as `Ledger.append`.
        """
        if self._is_running:
            raise Unavailable("backup_running", "a backup is being made; ask again when it is done")
        self._is_running = True
        try:
            if await self._ledger.receipts((self._ledger.head.size - 1,), SIGNATURE_WAIT_MS) is None:
                raise _unsigned()  # before half a backup is made
            async with self._reading() as reader, aclosing(self._pieces(reader)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._is_running = False

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Reader]:
        """A connection of its own: no payment waits behind a page."""
        reader = Reader(await asyncio.to_thread(connect_reader, self._source.folder))
        try:
            yield reader
        finally:
            await asyncio.to_thread(reader.close)

    async def _pieces(self, reader: Reader) -> AsyncGenerator[bytes, None]:
        source = self._source
        # Before the head: the owner can be shown no newer one than the backup holds.
        checkpoint = None if source.checkpoint is None else await source.checkpoint()
        moment = await reader.read(_moment)
        header = BackupHeader(
            origin=self._ledger.statement.origin,
            log_id=self._ledger.log_id,
            size=moment.size,
            root=moment.root,
            made_ms=self._clock.now_ms(),
            key_id=self._recipient.key_id,
        )
        writer = BackupWriter(self._recipient, header)
        yield writer.beginning
        if checkpoint is not None:
            yield writer.write(backup_file.FILE, [CHECKPOINT_FILE, checkpoint])
        async for kind, value in self._records(reader, moment):
            if piece := writer.write(kind, value):
                yield piece
            await self._clock.sleep(REST_MS)
        yield writer.write(backup_file.RECEIPT, await self._commit(moment.size, writer.digest))
        yield writer.end()

    async def _records(self, reader: Reader, moment: _Moment) -> AsyncIterator[tuple[str, object]]:
        source = self._source
        yield backup_file.SETTINGS, _plain(source.settings)
        yield backup_file.SECRETS, {STORE_KEY: source.store_key}
        for name, path in (await asyncio.to_thread(source.files)).items():
            async for record in _file(name, path):
                yield record
        at = 0
        while at < moment.size:
            at, encoded = await reader.read(partial(_entries, start=at, moment=moment))
            yield backup_file.ENTRIES, encoded
        async for record in self._beside(moment):
            yield record
        seq, name = -1, ""
        while rows := await reader.read(partial(_disclosures, seq=seq, name=name, size=moment.size)):
            seq, name = rows[-1][:2]
            yield backup_file.DISCLOSURES, rows
        key_id = -1
        while rows := await asyncio.to_thread(_subject_keys, source.folder, key_id):
            key_id = rows[-1][0]
            yield backup_file.SUBJECT_KEYS, rows
        async for record in self._vault():
            yield record

    async def _beside(self, moment: _Moment) -> AsyncIterator[tuple[str, object]]:
        """Files beside the log: what a pruned one begins with, and what followers gathered."""
        folder = self._source.folder
        if moment.snapshot:
            snapshot = snapshot_file(folder, moment.snapshot)
            async for record in _file(snapshot.name, snapshot):
                yield record
        copy = folder / f"copied-{EVIDENCE_FILE}"
        try:
            if await asyncio.to_thread(_copy_evidence, folder / EVIDENCE_FILE, copy):
                async for record in _file(EVIDENCE_FILE, copy):
                    yield record
        finally:
            await asyncio.to_thread(copy.unlink, missing_ok=True)

    async def _vault(self) -> AsyncIterator[tuple[str, object]]:
        """Tokens first: each finds its data key in what is read after."""
        folder, after = self._source.folder, ""
        while page := await asyncio.to_thread(token_page, folder, after=after, limit=PAGE_ROWS):
            after = page[-1].name
            yield backup_file.TOKENS, [[str(each.name), each.key_id, each.bound, each.sealed] for each in page]
        keys = await take_out_keys(folder, self._source.cipher)
        yield backup_file.DATA_KEYS, [[each.key_id, each.key, each.made_ms, each.is_closed] for each in keys]

    async def _commit(self, size: int, digest: bytes) -> bytes:
        body = backup_entries.BackedUpEntry(size=size, digest=digest)
        draft = Draft(
            kind=backup_entries.BACKED_UP,
            actor="box",
            time_ms=self._clock.now_ms(),
            body=cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=(bytes,))),
        )
        (recorded,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        proven = await self._ledger.receipts((recorded.seq,), SIGNATURE_WAIT_MS)
        if proven is None:
            raise _unsigned()
        return proven.encode()


def _moment(connection: sqlite3.Connection) -> _Moment:
    size, root = connection.execute("SELECT size, root FROM head").fetchone()
    base = base_of(connection)
    return _Moment(
        size=size,
        root=bytes(root),
        pruned_below=pruned_below(connection),
        snapshot=0 if base is None else base.size,
    )


def _entries(connection: sqlite3.Connection, *, start: int, moment: _Moment) -> tuple[int, bytes]:
    """Entries from `start` on, and where the next page begins."""
    if pruned_below(connection) != moment.pruned_below:
        raise Unavailable("backup_interrupted", "the log was pruned while its backup was made; ask again")
    end = min(start + PAGE_ROWS, moment.size)
    rows: list[tuple[int, bytes]] = []
    size_bytes = 0
    for seq, entry in connection.execute(
        "SELECT seq, entry FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (start, end)
    ):
        rows.append((seq, entry))
        size_bytes += len(entry)
        if size_bytes >= PIECE_BYTES:
            end = seq + 1
            break
    leaves = StoredLeaves(connection)
    try:
        return end, backup_file.join_entries(with_pruned(rows, start, end, below=moment.pruned_below, leaf=leaves))
    except EntryMissing as gone:
        raise Corrupt("entry_missing", f"expected entry {gone.seq}") from gone


def _disclosures(connection: sqlite3.Connection, *, seq: int, name: str, size: int) -> list[_Row]:
    rows = connection.execute(
        "SELECT seq, name, key_id, ciphertext FROM disclosures WHERE (seq, name) > (?, ?) AND seq < ?"
        " ORDER BY seq, name LIMIT ?",
        (seq, name, size, PAGE_ROWS),
    )
    return list(_up_to_a_piece(rows))


def _subject_keys(folder: Path, after: int) -> list[_Row]:
    with closing(_read_only(folder / KEYS_FILE)) as connection:
        return connection.execute(
            "SELECT id, subject, wrapped FROM keys WHERE id > ? ORDER BY id LIMIT ?", (after, PAGE_ROWS)
        ).fetchall()


def _up_to_a_piece(rows: Iterator[_Row]) -> Iterator[_Row]:
    size_bytes = 0
    for row in rows:
        yield row
        size_bytes += len(row[-1])
        if size_bytes >= PIECE_BYTES:
            return


async def _file(name: str, path: Path) -> AsyncIterator[tuple[str, object]]:
    """A file in pieces, at least one."""
    with await asyncio.to_thread(path.open, "rb") as file:
        piece = await asyncio.to_thread(file.read, PIECE_BYTES)
        yield backup_file.FILE, [name, piece]
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield backup_file.FILE, [name, piece]


def _copy_evidence(file: Path, copy: Path) -> bool:
    """One moment of it; False where there is none."""
    copy.unlink(missing_ok=True)
    if not file.exists():
        return False
    with closing(_read_only(file)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
    return True


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)


def _plain(value: Any) -> Any:
    """Only what CBOR of ours has: no tuples are left of the settings."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _unsigned() -> Unavailable:
    return Unavailable("signing_down", "no head could be signed in time, so the backup would prove nothing")
