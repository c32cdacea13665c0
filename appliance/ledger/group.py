"""One group: the appends of one transaction on their way to the disk.

Owns the splicing of entries, the growing tail and the rows not yet written. Must never begin, commit or roll back:
`writer.py` does, and throws a group away whole when anything in it fails.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from appliance.ledger.draft import Draft, Recorded, RecordedEntry
from appliance.ledger.entry import GENESIS_PREV, EntryHash, EntryStem, entry_hash, splice
from appliance.ledger.guard import Guard
from appliance.ledger.merkle import Frontier, Tile, leaf_hash
from appliance.ledger.projection import Projector
from appliance.ledger.rows import insert_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedDisclosure:
    """A disclosure as stored; `draft_index` says which entry of its append it opens."""

    draft_index: int
    name: str
    key_id: int
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Append:
    """Drafts that become durable together or not at all; encoded and sealed before they were queued."""

    drafts: tuple[Draft, ...]
    stems: tuple[EntryStem, ...]
    sealed: tuple[SealedDisclosure, ...]
    guard: Guard | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Where the log ends: everything the next entry depends on. Replaced whole after a commit, never changed."""

    size: int
    entry_hash: EntryHash
    frontier: Frontier
    root: bytes


def empty_tail() -> Tail:
    """The tail of a log without entries."""
    frontier = Frontier()
    return Tail(size=0, entry_hash=GENESIS_PREV, frontier=frontier, root=frontier.root())


class Group:
    """Rows and tail of one transaction."""

    def __init__(self, connection: sqlite3.Connection, projector: Projector, tail: Tail) -> None:
        self._connection = connection
        self._projector = projector
        self._size = tail.size
        self._prev = tail.entry_hash
        # A copy: when the transaction is rolled back, the published tail has not moved.
        self._frontier = tail.frontier.copy()
        self._tiles: list[Tile] = []
        self._entries: list[tuple[int, str, bytes]] = []
        self._disclosures: list[tuple[int, str, int, bytes]] = []
        self._projectable: list[RecordedEntry] = []

    @property
    def size(self) -> int:
        """Entries in the log if this group commits."""
        return self._size

    def add(self, append: Append) -> tuple[Recorded, ...]:
        """Give each draft of an accepted append its place; rows stay in memory until `flush`."""
        first_seq = self._size
        for sealed in append.sealed:
            self._disclosures.append((first_seq + sealed.draft_index, sealed.name, sealed.key_id, sealed.ciphertext))
        return tuple([self._place(draft, stem) for draft, stem in zip(append.drafts, append.stems, strict=True)])

    def _place(self, draft: Draft, stem: EntryStem) -> Recorded:
        seq = self._size
        entry = splice(seq, stem, self._prev)
        self._prev = entry_hash(entry)
        self._frontier.append(leaf_hash(entry), self._tiles)
        self._size = seq + 1
        self._entries.append((seq, draft.kind, entry))
        self._projectable.append(
            RecordedEntry(
                seq=seq,
                time_ms=draft.time_ms,
                kind=draft.kind,
                actor=draft.actor,
                body=draft.body,
                disclosures=draft.disclosures,
            )
        )
        return Recorded(seq=seq, time_ms=draft.time_ms, entry=entry, entry_hash=self._prev)

    def flush(self) -> None:
        """Write the rows so far and apply the projections: a guard that reads tables sees every earlier member.

        Called before each such guard and at the end, so a group without them is a handful of statements.
        """
        if not self._entries:
            return
        insert_rows(self._connection, "INSERT INTO entries (seq, kind, entry) VALUES", self._entries)
        insert_rows(
            self._connection, "INSERT INTO disclosures (seq, name, key_id, ciphertext) VALUES", self._disclosures
        )
        self._projector.apply(self._connection, self._projectable)
        self._entries, self._disclosures, self._projectable = [], [], []

    def finish(self) -> tuple[Tail, tuple[Tile, ...]]:
        """Write what is left, full tiles and the head row; the tail is true once the transaction commits."""
        self.flush()
        tail = Tail(size=self._size, entry_hash=self._prev, frontier=self._frontier, root=self._frontier.root())
        insert_rows(
            self._connection,
            "INSERT INTO tiles (level, number, root, hashes) VALUES",
            [(tile.level, tile.index, tile.root, tile.hashes) for tile in self._tiles],
        )
        self._connection.execute(
            "INSERT INTO head (one, size, entry_hash, root) VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE"
            " SET size = excluded.size, entry_hash = excluded.entry_hash, root = excluded.root",
            (tail.size, tail.entry_hash, tail.root),
        )
        return tail, tuple(self._tiles)
