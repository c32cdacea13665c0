"""Pruned entries: bodies that were removed on purpose, while their hashes stay in the tree for ever.

Owns the `pruned` entry, the removal that it causes, and the word for what is missing since. Must never remove a hash,
nor an entry that a verifier needs to know the log's keys.

* The rows go in the transaction of the entry that says so: there is no moment in between, and nothing to finish.
* Whatever else is missing is damage: only below `below` of the newest `pruned` entry may an entry be gone.

Source: docs/formats/pruning.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.ledger.disclosures import KIND_ERASED
from appliance.ledger.draft import RecordedEntry
from appliance.ledger.entry import ENTRY_BYTES_MAX
from appliance.ledger.genesis import KIND as GENESIS
from appliance.ledger.merkle import HASH_BYTES, TILE_WIDTH
from appliance.ledger.succession import DISTRUST, ROTATION
from appliance.ledger.tiles import read_tile
from appliance.model.errors import Corrupt, Rejected
from appliance.model.invariants import ensure
from appliance.wire import entries

SNAPSHOT: Final = "snapshot"
PRUNED: Final = "pruned"
KEPT_KINDS: Final = (
    GENESIS,
    ROTATION,
    DISTRUST,
    SNAPSHOT,
    PRUNED,
    KIND_ERASED,
    entries.EXPORTED,
    entries.TERMINAL_PAIRED,
    entries.TERMINAL_REVOKED,
)
"""Never removed: whose log it is, under which keys, what was done to it, and which tills a new log takes over."""


class PrunedEntry(bytes):
    """Stands for an entry that was pruned, where entries are read in order: its leaf hash, 32 bytes.

    It is no entry: whoever takes it for one finds it malformed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedBody:
    """What a `pruned` entry says: bodies below `below` are gone, the state is that of the entry `snapshot`."""

    below: int
    snapshot: int

    def __post_init__(self) -> None:
        ensure(self.below % TILE_WIDTH == 0 and self.below > 0, "whole tiles are pruned")

    def encode(self) -> bytes:
        """The body."""
        return cbor.encode({"below": self.below, "snapshot": self.snapshot})


def read_pruned(body: bytes) -> PrunedBody:
    """Read the body of a `pruned` entry. Raises Corrupt `pruned_malformed`."""
    match cbor.decode(body, size_max=ENTRY_BYTES_MAX):
        case {"below": int(below), "snapshot": int(snapshot), **rest} if (
            not rest and below > 0 and below % TILE_WIDTH == 0
        ):
            return PrunedBody(below=below, snapshot=snapshot)
        case _:
            raise Corrupt("pruned_malformed", "expected a `pruned` body of whole tiles")


class Pruned:
    """The ledger's own projection: how far it was pruned; applying an entry removes the rows."""

    name: Final = "pruned"
    tables: Final = ("pruned", "snapshots")
    schema: Final = (
        "CREATE TABLE pruned (seq INTEGER PRIMARY KEY, below INTEGER NOT NULL, snapshot INTEGER NOT NULL)",
        "CREATE TABLE snapshots (seq INTEGER PRIMARY KEY)",
    )
    kinds: Final = frozenset({SNAPSHOT, PRUNED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Remember, and remove what the entry says; in a replay nothing is left to remove."""
        for entry in recorded:
            if entry.kind == SNAPSHOT:
                connection.execute("INSERT INTO snapshots VALUES (?)", (entry.seq,))
                continue
            body = read_pruned(entry.body)
            connection.execute("INSERT INTO pruned VALUES (?, ?, ?)", (entry.seq, body.below, body.snapshot))
            marks = ", ".join("?" * len(KEPT_KINDS))
            connection.execute(
                f"DELETE FROM entries WHERE seq < ? AND kind NOT IN ({marks})",  # noqa: S608 - marks only
                (body.below, *KEPT_KINDS),
            )
            connection.execute("DELETE FROM disclosures WHERE seq < ?", (body.below,))


def pruned_below(connection: sqlite3.Connection) -> int:
    """Entries below this may be gone; 0 for a log that was never pruned, also one of an older release."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'pruned'").fetchone() is None:
        return 0
    (below,) = connection.execute("SELECT max(below) FROM pruned").fetchone()
    return 0 if below is None else int(below)


def missing(connection: sqlite3.Connection, seq: int) -> Rejected | Corrupt:
    """Why the entry `seq`, which the log has, is not on the disk: to be raised."""
    below = pruned_below(connection)
    if seq < below:
        return Rejected("entry_pruned", f"entry {seq} was pruned, as all below {below}; its hash stays in the tree")
    return Corrupt("entry_missing", f"expected entry {seq}")


def with_pruned(
    rows: Iterable[tuple[int, bytes]], start: int, end: int, *, below: int, leaf: Callable[[int], bytes]
) -> Iterator[bytes]:
    """The entries start <= seq < end of `rows` (seq, entry), each pruned one as its hash, in order.

    Args:
        leaf: the leaf hash of an entry, from its tile.
    Raises:
        EntryMissing: a row is missing that was not pruned.
    """
    at = start
    for seq, encoded in rows:
        yield from _absent(at, seq, below, leaf)
        yield encoded
        at = seq + 1
    yield from _absent(at, end, below, leaf)


class EntryMissing(Exception):
    """An entry is not there, and nothing says that it was pruned."""

    def __init__(self, seq: int) -> None:
        super().__init__(seq)
        self.seq = seq


def _absent(start: int, end: int, below: int, leaf: Callable[[int], bytes]) -> Iterator[PrunedEntry]:
    for seq in range(start, end):
        if seq >= below:
            raise EntryMissing(seq)
        yield PrunedEntry(leaf(seq))


class StoredLeaves:
    """Leaf hashes from the full tiles of level 0, the last tile remembered."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._number = -1
        self._hashes = b""

    def __call__(self, seq: int) -> bytes:
        """The leaf hash of entry `seq`. Raises Corrupt `tile_missing`."""
        number, at = divmod(seq, TILE_WIDTH)
        if number != self._number:
            self._number, self._hashes = number, read_tile(self._connection, 0, number)
        return self._hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
