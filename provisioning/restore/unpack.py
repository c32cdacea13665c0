"""A backup's content, checked and laid out in a folder of its own: a log that may be believed, and what lay beside it.

Owns the order of checks. Must never leave anything behind under a name that a box would open: the caller's folder is a
place to work in, thrown away unless everything was right.

* Whoever has the public key can seal a backup. This one counts because the pinned owner signed the log's beginning, the
  entries are one chain from there, and the log's own keys signed an entry that commits to every byte of the file.
* The tables are not the old box's: they are made anew from the entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from appliance.crypto import cbor
from appliance.device.backup import EVIDENCE_FILE, STORE_KEY
from appliance.ledger import backup_file
from appliance.ledger.backup_file import BackupHeader, BackupReader, Record, split_entries
from appliance.ledger.database import connect_reader
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.ledger.export import read_entries, verify_export
from appliance.ledger.genesis import SignedGenesis, read_body
from appliance.ledger.opening import with_own
from appliance.ledger.projection import Projection
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.refill import Refill
from appliance.ledger.scrub import scrub
from appliance.ledger.subject_keys import KEYS_FILE, SubjectKeys
from appliance.ledger.trust import Evidence, Trust, listening
from appliance.ledger.verify import BadEntry, VerifiedLog, verify_log
from appliance.model.errors import Corrupt, Rejected
from appliance.model.provider_token import TokenName
from appliance.payment.vault.file import SealedToken
from appliance.payment.vault.moving import MovedKey, put_tokens
from appliance.wire.backup_entries import BACKED_UP, BackedUpEntry

FILES: Final = "files"
_NAME: Final = re.compile(r"\A[a-z0-9][a-z0-9_.-]{0,127}\Z")
_BESIDE_THE_LOG: Final = re.compile(r"\A(?:snapshot-[0-9]{1,18}\.db|" + re.escape(EVIDENCE_FILE) + r")\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A whole, genuine backup.

    Attributes:
        size: entries of the log in `folder`; more than the header's where an exported log went further.
        folder: the log's, ready to be moved; secrets that a token must wrap are not in it yet.
        files: those that the settings name, by the setting's place.
        trust: the pinned owner, with all that he says in this log.
    """

    header: BackupHeader
    size: int
    folder: Path
    files: dict[str, Path]
    settings: dict[str, Any]
    genesis: SignedGenesis
    trust: Trust
    store_key: bytes
    data_keys: tuple[MovedKey, ...]


@dataclass(slots=True)
class _Found:
    """What stood in records, until all of it is known to be genuine."""

    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    data_keys: list[MovedKey] = field(default_factory=list)
    receipt: bytes = b""


def unpack(
    file: BinaryIO,
    *,
    seed: bytes,
    trust: Trust,
    folder: Path,
    tables: Sequence[Projection] = (),
    further: BinaryIO | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Unpacked:
    """Read `file` from its beginning to its end into `folder`, which is empty.

    Args:
        tables: what is made of the entries, beside what the ledger makes itself.
        further: an exported log, seekable: its entries behind those of the backup are restored, too.
    Raises:
        Rejected: `backup_malformed`, `backup_truncated`, `backup_wrong_key`, `backup_changed`,
            `backup_of_another_owner`, `backup_not_genuine`, `backup_forked`; `restore_log_unfit`: `further` is none of
            this log, or goes no further.
    """
    data = folder / "data"
    data.mkdir(mode=0o700)
    (folder / FILES).mkdir(mode=0o700)
    reader = BackupReader(file, seed)
    found = _Found()
    said: list[Evidence] = []
    size = reader.header.size
    with closing(Refill(data, marked_size=size)) as refill:
        on_step("reading the backup and checking every entry")
        rest = iter(()) if further is None else entries_behind(further, reader.header, trust)
        content = _Content(reader, found, data, folder / FILES, refill)
        entries = _of_owner(listening(chain(content.entries(), rest), said), trust)
        try:
            log = verify_log(refill.taking(entries), owner=trust.owner)
        except BadEntry as bad:
            # A link between the two that does not hold may be blamed on its earlier end.
            raise _forked() if further is not None and bad.seq >= size - 1 else _not_genuine(bad.detail) from bad
        except Corrupt as bad:
            raise _not_genuine(bad.detail) from bad
        learnt = _learn(trust, said)
        _require_genuine(reader, found, log, refill.marked_root, learnt)
        on_step("making the tables from the entries")
        refill.end(log, with_own(tables))
    on_step("reading back what was written")
    _read_back(data, log, found)
    return Unpacked(
        header=reader.header,
        size=log.size,
        folder=data,
        files=found.files,
        settings=found.settings,
        genesis=said[0].logs[0],
        trust=learnt,
        store_key=found.secrets[STORE_KEY],
        data_keys=tuple(found.data_keys),
    )


class _Content:
    """The records as entries to walk over; everything else is put where it belongs on the way."""

    def __init__(self, reader: BackupReader, found: _Found, data: Path, files: Path, refill: Refill) -> None:
        self._reader = reader
        self._found = found
        self._data = data
        self._files = files
        self._refill = refill

    def entries(self) -> Iterator[bytes]:
        """Every entry. Raises Rejected as `BackupReader.records`."""
        for record in self._reader.records():
            if self._found.receipt:
                raise Rejected("backup_malformed", "expected nothing behind the receipt")
            if record.kind == backup_file.ENTRIES:
                yield from split_entries(record.value)
            else:
                try:
                    self._put(record)
                except (TypeError, ValueError) as cause:
                    raise Rejected("backup_malformed", f"expected a record of {record.kind:.40}") from cause

    def _put(self, record: Record) -> None:
        found, value = self._found, record.value
        match record.kind, value:
            case backup_file.SETTINGS, dict():
                found.settings = msgspec.convert(value, dict[str, Any])
            case backup_file.SECRETS, dict():
                found.secrets = msgspec.convert(value, dict[str, bytes])
            case backup_file.FILE, [str(name), bytes(piece)] if _NAME.match(name):
                self._append(name, piece)
            case backup_file.DISCLOSURES, [*rows]:
                self._refill.add_disclosures(_rows(rows, tuple[int, str, int, bytes]))
            case backup_file.SUBJECT_KEYS, [*rows]:
                with closing(SubjectKeys(self._data / KEYS_FILE, found.secrets[STORE_KEY])) as keys:
                    keys.take_in(_rows(rows, tuple[int, str, bytes]))
            case backup_file.TOKENS, [*rows]:
                put_tokens(self._data, [_token(*row) for row in _rows(rows, tuple[str, int, bytes, bytes])])
            case backup_file.DATA_KEYS, [*rows]:
                found.data_keys += [_data_key(*row) for row in _rows(rows, tuple[int, bytes, int, bool])]
            case backup_file.RECEIPT, bytes(receipt):
                found.receipt = receipt
            case _:
                raise ValueError

    def _append(self, name: str, piece: bytes) -> None:
        path = (self._data if _BESIDE_THE_LOG.match(name) else self._files) / name
        path.touch(mode=0o600)
        with path.open("ab") as file:
            file.write(piece)
        if path.parent == self._files:
            self._found.files[name] = path


def _rows(rows: list[Any], shape: Any) -> list[Any]:
    return [msgspec.convert(row, shape) for row in rows]


def _token(name: str, key_id: int, bound: bytes, sealed: bytes) -> SealedToken:
    return SealedToken(name=TokenName(name), key_id=key_id, bound=bound, sealed=sealed)


def _data_key(key_id: int, key: bytes, made_ms: int, is_closed: bool) -> MovedKey:
    return MovedKey(key_id=key_id, key=key, made_ms=made_ms, is_closed=is_closed)


def _of_owner(entries: Iterator[bytes], trust: Trust) -> Iterator[bytes]:
    """`entries`, if the first one says that the log is the pinned owner's."""
    first = next(entries, b"")
    try:
        read_body(decode(first).body).verify(trust.owner)
    except (Rejected, Corrupt) as cause:
        raise Rejected(
            "backup_of_another_owner",
            f"its log was not begun by the owner {trust.owner.fingerprint[:16]} of trust.json",
        ) from cause
    yield first
    yield from entries


def _learn(trust: Trust, said: list[Evidence]) -> Trust:
    try:
        return trust.learn(sum(said, Evidence()))
    except Rejected as cause:
        raise _not_genuine(cause.detail) from cause


def entries_behind(further: BinaryIO, header: BackupHeader, trust: Trust) -> Iterator[bytes]:
    """The entries of an exported log behind those of the backup; the whole export is verified first.

    Raises:
        Rejected: `restore_log_unfit`.
    """
    try:
        export = verify_export(further, trust)
    except (Rejected, Corrupt) as cause:
        raise Rejected("restore_log_unfit", f"the exported log does not verify: {cause.detail}") from cause
    if export.log.log_id != header.log_id or export.log.size <= header.size:
        raise Rejected("restore_log_unfit", f"expected this log with more than {header.size} entries")
    further.seek(0)
    return islice(read_entries(further), header.size, None)


def _require_genuine(reader: BackupReader, found: _Found, log: VerifiedLog, root: bytes, trust: Trust) -> None:
    """The log's own keys signed an entry that commits to the whole file."""
    header = reader.header
    if log.genesis is None or (log.log_id, root, log.genesis.origin) != (header.log_id, header.root, header.origin):
        raise _not_genuine("its header names another log or head than its entries come to")
    try:
        verified = verify_receipt(found.receipt, trust.keys)
        last = verified.entries[-1]
        body = msgspec.convert(cbor.decode(last.body, size_max=ENTRY_BYTES_MAX), BackedUpEntry)
    except (Rejected, msgspec.ValidationError) as cause:
        raise _not_genuine("its receipt does not verify") from cause
    if verified.log_id != header.log_id or last.kind != BACKED_UP or last.seq < header.size:
        raise _not_genuine("its receipt is not about a backup of this log")
    if (body.digest, body.size) != (reader.digest, header.size):
        raise _not_genuine("the log committed to another content")
    if len(found.secrets.get(STORE_KEY, b"")) != 32:
        raise _not_genuine("it lacks the key over the values of persons")


def _read_back(data: Path, log: VerifiedLog, found: _Found) -> None:
    """What the disk holds now is what was checked; a person who was erased in this log is erased here."""
    with closing(connect_reader(data)) as connection:
        if log.log_id is None or scrub(connection, log_id=log.log_id, turn=lambda *_: None).root != log.root:
            raise Corrupt("head_mismatch", "the disk does not give back what was written to it")
        with closing(SubjectKeys(data / KEYS_FILE, found.secrets[STORE_KEY])) as keys:
            keys.finish_erasures(row[0] for row in connection.execute("SELECT key_id FROM erased_keys"))


def _forked() -> Rejected:
    return Rejected("backup_forked", "the exported log does not go on from the backup: two logs have one name")


def _not_genuine(why: str) -> Rejected:
    return Rejected("backup_not_genuine", f"this is not what a box of this owner backed up: {why}")
