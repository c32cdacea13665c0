"""The archive: what auditors and strangers read of the log, beside the reads of payments.

Owns a connection, a thread and a tile cache of its own, all bounded, so that no number of strangers makes a payment
wait. Must never show what is not durable: every size is one that the ledger has published.

* A growing tile comes from the right edge in memory, a full one from the cache or the reader's thread.
* Everything below a published size never changes: whoever serves it may let it be cached for ever.
* Of a pruned entry the hash is left: proofs go on, its bytes are `entry_pruned`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appliance.ledger.database import connect_reader
from appliance.ledger.entry import Entry, decode
from appliance.ledger.group import Tail
from appliance.ledger.head import Head
from appliance.ledger.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree
from appliance.ledger.pruned import missing, pruned_below
from appliance.ledger.reader import Reader
from appliance.ledger.tiles import StoredTiles, TileCache, TileMissing, read_tile
from appliance.ledger.tlog import TilePath, encode_bundle
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

ARCHIVE_READS_MAX: Final = 32
CACHED_TILES_MAX: Final = 256
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """Entry `seq` under the head of `head.size` entries: `leaf` is its hash, `path` the siblings from the leaf up."""

    seq: int
    leaf: bytes
    path: tuple[bytes, ...]
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestAt:
    """The head as of a time: `last` is the newest entry inside, `following` the first outside (None at the end)."""

    head: Head
    last: Entry | None
    following: Entry | None


class Archive:
    """Tiles, bundles and proofs for any published size; lives on the event loop, reads on its own thread."""

    def __init__(self, connection: sqlite3.Connection, tail: Callable[[], Tail]) -> None:
        self._tail = tail
        self._cache = TileCache(CACHED_TILES_MAX)
        self._reader = Reader(connection, waiting_max=ARCHIVE_READS_MAX)

    @classmethod
    async def open(cls, folder: Path, tail: Callable[[], Tail]) -> Archive:
        """The archive of an open ledger, whose newest published tail `tail` gives."""
        return cls(await asyncio.to_thread(connect_reader, folder), tail)

    async def close(self) -> None:
        """End the thread; before the ledger closes."""
        await asyncio.to_thread(self._reader.close)

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._tail().size

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `query` in a short read transaction. Raises Unavailable `ledger_busy`."""
        return await self._reader.read(query)

    async def tile(self, path: TilePath) -> bytes:
        """The hashes of a tile, 32 bytes each.

        Raises:
            Rejected: `tile_unknown`: the log has not grown that far.
            Unavailable: `ledger_busy`.
        """
        ensure(path.level is not None, "a tile of hashes has a level")
        level = path.level or 0
        tail = self._published(path)
        if path.number == tail.size >> (TILE_HEIGHT * (level + 1)):
            return b"".join([_edge_node(tail, level, path.end - path.width + at) for at in range(path.width)])
        try:
            hashes = self._cache.hashes(level, path.number)
        except TileMissing:
            hashes = await self.read(lambda connection: read_tile(connection, level, path.number))
            self._cache.put(level, path.number, hashes)
        return hashes[: path.width * HASH_BYTES]

    async def bundle(self, path: TilePath) -> bytes:
        """The entries of a bundle, each behind its length. Raises as `tile`, and Rejected `entry_pruned`."""
        ensure(path.level is None, "a bundle of entries has no level")
        self._published(path)
        first = path.number * TILE_WIDTH
        return await self.read(lambda connection: encode_bundle(read_entries(connection, first, path.end)))

    async def entries(self, seqs: tuple[int, ...]) -> tuple[Entry, ...]:
        """The entries `seqs`, which must exist, in this order. Raises Rejected `entry_pruned`."""
        return await self.read(lambda connection: tuple([_decoded(connection, seq) for seq in seqs]))

    async def entry(self, seq: int) -> bytes:
        """The bytes of one entry. Raises Rejected `entry_unknown`, `entry_pruned`."""
        if not 0 <= seq < self._tail().size:
            raise _unknown(seq, self._tail().size)
        return await self.read(lambda connection: read_entries(connection, seq, seq + 1)[0])

    async def inclusion(self, seq: int, size: int) -> Inclusion:
        """Proof that entry `seq` is in the log of `size` entries.

        Raises:
            Rejected: `entry_unknown`: seq is not below size; `size_unknown`: the log has not grown that far.
        """
        tail = self._sized(size)
        if not 0 <= seq < size:
            raise _unknown(seq, size)

        def prove(connection: sqlite3.Connection) -> Inclusion:
            tree = Tree(tail.frontier, StoredTiles(connection, self._cache))
            return Inclusion(
                seq=seq,
                leaf=tree.leaf(seq),
                path=tree.inclusion_proof(seq, size),
                head=Head(size=size, root=tree.root(size)),
            )

        return await self.read(prove)

    async def consistency(self, size1: int, size2: int) -> tuple[bytes, ...]:
        """Proof that the log of `size2` entries extends the one of `size1`. Raises Rejected `size_unknown`."""
        tail = self._sized(size2)
        if not 0 < size1 <= size2:
            raise Rejected("size_unknown", f"expected a first size of 1 to {size2}, saw {size1}")
        return await self.read(
            lambda connection: Tree(tail.frontier, StoredTiles(connection, self._cache)).consistency_proof(size1, size2)
        )

    async def digest_at(self, time_ms: int | None) -> DigestAt:
        """The head as of a time, None for now.

        Found by bisection over the entries' own times. Where the box's clock was stepped back, times do not rise and
        several heads fit: one of them is found, and the two entries beside it show what was believed when.

        Raises:
            Rejected: `entry_pruned`: the time lies before what is left of the log.
        """
        tail = self._tail()

        def find(connection: sqlite3.Connection) -> DigestAt:
            size = tail.size if time_ms is None else _size_at(connection, tail.size, time_ms)
            tree = Tree(tail.frontier, StoredTiles(connection, self._cache))
            return DigestAt(
                head=Head(size=size, root=tree.root(size)),
                last=_decoded(connection, size - 1) if size else None,
                following=_decoded(connection, size) if size < tail.size else None,
            )

        return await self.read(find)

    def _published(self, path: TilePath) -> Tail:
        tail = self._tail()
        if not path.is_below(tail.size):
            raise Rejected("tile_unknown", f"a log of {tail.size} entries has no tile {path}")
        return tail

    def _sized(self, size: int) -> Tail:
        tail = self._tail()
        if not 0 < size <= tail.size:
            raise Rejected("size_unknown", f"expected a size of 1 to {tail.size}, saw {size}")
        return tail


def _edge_node(tail: Tail, level: int, index: int) -> bytes:
    node = tail.frontier.node(TILE_HEIGHT * level, index)
    ensure(node is not None, "the right edge holds every node of a growing tile")
    return node or b""


def read_entries(connection: sqlite3.Connection, start: int, end: int) -> list[bytes]:
    """The entries start <= seq < end, all of them.

    Raises:
        Rejected: `entry_pruned`.
        Corrupt: `entry_missing`.
    """
    rows = connection.execute(
        "SELECT seq, entry FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (start, end)
    ).fetchall()
    for expected, (seq, _) in enumerate(rows, start):
        if seq != expected:
            raise missing(connection, expected)
    if len(rows) != end - start:
        raise missing(connection, start + len(rows))
    return [entry for _, entry in rows]


def _decoded(connection: sqlite3.Connection, seq: int) -> Entry:
    return decode(read_entries(connection, seq, seq + 1)[0])


def _size_at(connection: sqlite3.Connection, size: int, time_ms: int) -> int:
    """The number of entries up to `time_ms`: the entry behind them is later."""
    first = low = pruned_below(connection)
    high = size
    while low < high:
        middle = (low + high) // 2
        if _decoded(connection, middle).time_ms <= time_ms:
            low = middle + 1
        else:
            high = middle
    if 0 < first == low:
        raise missing(connection, low - 1)
    return low


def _unknown(seq: int, size: int) -> Rejected:
    return Rejected("entry_unknown", f"expected an entry of 0 to {size - 1}, saw {seq}")
