"""The prover: paths through the published tree, for receipts, witnesses and terminals.

Owns the tile cache and the newest entries' bytes. Must never prove what is not durable: it knows published tails only.

* A receipt asked right after its append is proven from memory on the event loop; anything older goes to the reader.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.ledger.draft import Recorded
from appliance.ledger.group import Tail
from appliance.ledger.merkle import Tile, Tree
from appliance.ledger.pruned import missing
from appliance.ledger.reader import Reader
from appliance.ledger.receipt import ProvenEntry
from appliance.ledger.tiles import StoredTiles, TileCache, TileMissing
from appliance.model.errors import Corrupt, TillstoneError
from appliance.model.invariants import ensure

RECENT_ENTRIES_MAX = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """The highest head that somebody outside has verified."""

    size: int
    root: bytes


class Prover:
    """Proofs for any published size; lives on the event loop."""

    def __init__(self, tail: Tail, reader: Reader) -> None:
        self._tail = tail
        self._reader = reader
        self._cache = TileCache()
        self._tree = Tree(tail.frontier, self._cache)
        self._recent: dict[int, bytes] = {}

    @property
    def tail(self) -> Tail:
        """The newest published tail."""
        return self._tail

    def publish(self, tail: Tail, tiles: tuple[Tile, ...], recorded: Sequence[Recorded]) -> None:
        """A group became durable."""
        self._tail = tail
        self._tree = Tree(tail.frontier, self._cache)
        self._cache.put_all(tiles)
        recent = self._recent
        for entry in recorded[-RECENT_ENTRIES_MAX:]:
            recent[entry.seq] = entry.entry
            recent.pop(entry.seq - RECENT_ENTRIES_MAX, None)

    async def prove(self, seqs: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Entries `seqs` with their paths under the head of `size`; pruned ones are left out.

        Raises:
            Rejected: `entry_pruned`: all of them were.
        """
        ensure(all(0 <= seq < size for seq in seqs) and size <= self._tail.size, "proofs are of durable entries")
        tree, recent = self._tree, self._recent
        try:
            return tuple(
                [ProvenEntry(seq=seq, entry=recent[seq], path=tree.inclusion_proof(seq, size)) for seq in seqs]
            )
        except (KeyError, TileMissing):
            frontier = self._tail.frontier
            return await self._reader.read(
                lambda connection: _prove_stored(
                    connection, Tree(frontier, StoredTiles(connection, self._cache)), seqs, size
                )
            )

    async def consistency(self, size1: int, size2: int) -> tuple[bytes, ...]:
        """Proof that the log of `size2` extends the one of `size1`."""
        frontier = self._tail.frontier
        return await self._reader.read(
            lambda connection: Tree(frontier, StoredTiles(connection, self._cache)).consistency_proof(size1, size2)
        )

    async def check(self, seen: Watermark) -> None:
        """Compare with what somebody has seen of this log.

        Raises:
            Corrupt: `log_shorter_than_seen`, `log_differs_from_seen`: the log was rolled back and must be quarantined.
        """
        frontier = self._tail.frontier
        if seen.size > frontier.size:
            raise Corrupt(
                "log_shorter_than_seen", f"a head of size {seen.size} was verified outside, the log has {frontier.size}"
            )
        try:
            root = self._tree.root(seen.size)
        except TileMissing:
            root = await self._reader.read(
                lambda connection: Tree(frontier, StoredTiles(connection, self._cache)).root(seen.size)
            )
        if root != seen.root:
            raise Corrupt("log_differs_from_seen", f"another head of size {seen.size} was verified outside")


def _prove_stored(
    connection: sqlite3.Connection, tree: Tree, seqs: Sequence[int], size: int
) -> tuple[ProvenEntry, ...]:
    """What is still there of `seqs`: a refund is proven also when the sale that it gives back was pruned."""
    proven: list[ProvenEntry] = []
    gone: TillstoneError | None = None
    for seq in seqs:
        row = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
        if row is not None:
            proven.append(ProvenEntry(seq=seq, entry=row[0], path=tree.inclusion_proof(seq, size)))
            continue
        gone = missing(connection, seq)
        if isinstance(gone, Corrupt):
            raise gone
    if gone is not None and not proven:
        raise gone
    return tuple(proven)
