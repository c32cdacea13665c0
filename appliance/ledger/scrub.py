"""The scrub: reads every byte of the stored log again and says where the first wrong one is.

Owns the comparison of what is stored twice or derived: chain, tiles, tile roots, kinds, head, SQLite's own structure.
Must never repair, and never hold a read transaction over more than a page of entries (SQLite's structure check apart).

* What `verify.py` computes from the entries is compared with every stored copy: one flipped bit in an entry, a tile or
  the head row is named with its place.
* Values that may be erased are opened and compared with what their entries commit to.
* Tables of projections are not compared here: they are thrown away and rebuilt, never believed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from appliance.crypto.cbor import head as cbor_head
from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.entry import decode
from appliance.ledger.genesis import LogId
from appliance.ledger.merkle import HASH_BYTES, TILE_HEIGHT, node_hash
from appliance.ledger.pruned import EntryMissing, StoredLeaves, pruned_below, with_pruned
from appliance.ledger.verify import BadEntry, VerifiedLog, verify_log
from appliance.model.errors import Corrupt

PAGE_ENTRIES: Final = 256  # about 1.3 ms of hashing between two pauses
_TEXT: Final = 3

Turn = Callable[[int, int], None]
"""Called between pages with (entries checked, entries in all): may wait, and may raise to stop."""
_DisclosureRow = tuple[int, str, int, bytes, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredHead:
    size: int
    entry_hash: bytes
    root: bytes
    tiles: int
    pruned_below: int


def scrub(connection: sqlite3.Connection, *, log_id: LogId, turn: Turn) -> VerifiedLog:
    """Check the log as it stands now; blocking, for a thread of its own.

    Raises:
        BadEntry: as `verify_log`, and `kind_mismatch`, `tile_root_mismatch`; `seq` says where.
        Corrupt: `head_missing`, `head_mismatch`, `tile_surplus`, `genesis_mismatch`, `database_damaged` (names the
            place: near which entry, or which table).
    """
    stored = _read_head(connection)
    reading = _Reading(connection, stored, turn)
    try:
        log = verify_log(reading.entries(), owner=None, stored_tile=reading.tile)
        reading.check_roots()
        _compare(log, stored, log_id)
        _check_structure(connection, lambda: turn(stored.size, stored.size))
    except BadEntry as bad:
        if bad.code == "entry_missing" and stored.pruned_below < pruned_below(connection):
            return scrub(connection, log_id=log_id, turn=turn)  # pruned meanwhile: a longer log says so
        raise
    except sqlite3.DatabaseError as damage:
        if getattr(damage, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            turn(stored.size, stored.size)  # somebody wants us to stop: it raises
        raise Corrupt(
            "database_damaged", f"SQLite cannot read the file near entry {reading.checked}: {damage}"
        ) from damage
    return log


Read = Callable[[Callable[[sqlite3.Connection], list[_DisclosureRow]]], Awaitable[list[_DisclosureRow]]]


async def scrub_disclosures(read: Read, vault: DisclosureVault, rest: Callable[[], Awaitable[None]]) -> int:
    """Open every value beside the log under its key and compare it with its entry; returns how many rows there were.

    Args:
        rest: awaited between pages.
    Raises:
        Corrupt: as `DisclosureVault.check`; `database_damaged`.
    """
    checked, seq, name = 0, -1, ""
    try:
        while rows := await read(partial(_disclosure_page, seq=seq, name=name)):
            await vault.check(rows)
            checked += len(rows)
            seq, name = rows[-1][:2]
            await rest()
    except sqlite3.DatabaseError as damage:
        raise Corrupt("database_damaged", f"SQLite cannot read the values behind entry {seq}: {damage}") from damage
    return checked


def _disclosure_page(connection: sqlite3.Connection, *, seq: int, name: str) -> list[_DisclosureRow]:
    return connection.execute(
        "SELECT d.seq, d.name, d.key_id, d.ciphertext, e.entry FROM disclosures AS d LEFT JOIN entries AS e USING (seq)"
        " WHERE (d.seq, d.name) > (?, ?) ORDER BY d.seq, d.name LIMIT ?",
        (seq, name, PAGE_ENTRIES),
    ).fetchall()


class _Reading:
    """Pages of entries, and stored tiles, for the verifier to pull."""

    def __init__(self, connection: sqlite3.Connection, stored: _StoredHead, turn: Turn) -> None:
        self._connection = connection
        self._size = stored.size
        self._turn = turn
        self._seen: list[tuple[int, int, bytes, bytes]] = []
        # A hint from a table: the entries themselves must say so too, or the verifier misses what is gone.
        self._below = stored.pruned_below
        self._leaves = StoredLeaves(connection)
        self.checked = 0

    def entries(self) -> Iterator[bytes]:
        while self.checked < self._size:
            end = min(self.checked + PAGE_ENTRIES, self._size)
            rows = self._connection.execute(
                "SELECT seq, kind, entry FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (self.checked, end)
            ).fetchall()
            page = with_pruned(
                ((seq, _of_its_kind(seq, kind, encoded)) for seq, kind, encoded in rows),
                self.checked,
                end,
                below=self._below,
                leaf=self._leaves,
            )
            try:
                for encoded in page:
                    yield encoded
                    self.checked += 1
            except EntryMissing as gone:
                raise BadEntry(gone.seq, "entry_missing", "it is not there") from gone
            self._turn(self.checked, self._size)

    def tile(self, level: int, number: int) -> bytes:
        """Hashes for the verifier to compare; the root beside them is checked once they were found right."""
        self.check_roots()
        row = self._connection.execute(
            "SELECT hashes, root FROM tiles WHERE level = ? AND number = ?", (level, number)
        ).fetchone()
        if row is None:
            return b""
        self._seen.append((level, number, bytes(row[0]), bytes(row[1])))
        return bytes(row[0])

    def check_roots(self) -> None:
        """Of the tiles that were given out and not refused."""
        for level, number, hashes, root in self._seen:
            if _root_of(hashes) != root:
                last_seq = ((number + 1) << (TILE_HEIGHT * (level + 1))) - 1
                detail = f"the root stored beside tile {number} of level {level} is not the tile's"
                raise BadEntry(last_seq, "tile_root_mismatch", detail)
        self._seen.clear()


def _read_head(connection: sqlite3.Connection) -> _StoredHead:
    connection.execute("BEGIN")  # head and tiles of one moment
    try:
        row = connection.execute("SELECT size, entry_hash, root FROM head").fetchone()
        (tiles,) = connection.execute("SELECT count(*) FROM tiles").fetchone()
        below = pruned_below(connection)
    finally:
        connection.execute("ROLLBACK")
    if row is None:
        raise Corrupt("head_missing", "expected a head row")
    return _StoredHead(size=row[0], entry_hash=bytes(row[1]), root=bytes(row[2]), tiles=tiles, pruned_below=below)


def _of_its_kind(seq: int, kind: str, encoded: bytes) -> bytes:
    if not _is_of_kind(encoded, seq, kind):
        raise BadEntry(seq, "kind_mismatch", f"its row says {kind!r:.80}, its bytes say something else")
    return encoded


def _is_of_kind(encoded: bytes, seq: int, kind: str) -> bool:
    """Whether the row's `kind` is the entry's: compared in place for usual entries, decoded for the others."""
    kind_bytes = kind.encode()
    expected = cbor_head(_TEXT, len(kind_bytes)) + kind_bytes
    if encoded.startswith(expected, 2 + len(cbor_head(0, seq)) + 9):
        return True
    try:
        return decode(encoded).kind == kind
    except Corrupt:
        return True  # malformed altogether: the verifier says so


def _root_of(hashes: bytes) -> bytes:
    level = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(level) > 1:
        level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]


def _compare(log: VerifiedLog, stored: _StoredHead, log_id: LogId) -> None:
    if log.log_id != log_id:
        raise Corrupt("genesis_mismatch", "entry 0 begins another log than the one that was opened")
    if (log.entry_hash, log.root) != (stored.entry_hash, stored.root):
        raise Corrupt("head_mismatch", f"the {log.size} entries do not give the hash and root in the head row")
    expected = 0
    full = stored.size >> TILE_HEIGHT
    while full:
        expected += full
        full >>= TILE_HEIGHT
    if stored.tiles != expected:
        raise Corrupt("tile_surplus", f"expected {expected} tiles, saw {stored.tiles}")


def _check_structure(connection: sqlite3.Connection, turn: Callable[[], None]) -> None:
    """SQLite's own check, table by table: indexes, free pages, what no query of ours would touch."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    for (table,) in tables:
        turn()
        # Quoted by doubling: the name comes from a file that may be damaged.
        name = str(table).replace("'", "''")
        (said,) = connection.execute(f"PRAGMA integrity_check('{name}')").fetchone()
        if said != "ok":
            raise Corrupt("database_damaged", f"SQLite finds table {table!s:.80} damaged: {said!s:.200}")
