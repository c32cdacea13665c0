"""Full tiles: 256 hashes each, read once, remembered reduced.

Owns the cache and the reading of `tiles`. Must never compute a proof (merkle.py) or write a row (group.py).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from hashlib import sha256

from appliance.ledger.merkle import HASH_BYTES, TILE_HEIGHT, Tile
from appliance.model.errors import Corrupt

CACHED_TILES_MAX = 512  # 16 kB each


class TileMissing(Exception):
    """The tile is not in the cache; reading it takes a connection, so not on the event loop."""


class TileCache:
    """Reduced tiles, least recently used out first; shared by the event loop and the reader thread.

    Level 0 and the levels above have `tiles_max` places each: one tile of level 1 stands over 65,536 entries, and
    reading entries by chance must not push it out.
    """

    def __init__(self, tiles_max: int = CACHED_TILES_MAX) -> None:
        self._tiles_max = tiles_max
        self._lock = threading.Lock()
        # Hashes of a tile by height: 256, 128, ... 2. A tile is reduced when it is first asked.
        self._tiles: tuple[OrderedDict[tuple[int, int], list[bytes]], ...] = (OrderedDict(), OrderedDict())

    def put(self, tile_level: int, number: int, hashes: bytes) -> None:
        """Remember a full tile."""
        tiles = self._tiles[tile_level > 0]
        with self._lock:
            tiles[tile_level, number] = [hashes]
            tiles.move_to_end((tile_level, number))
            if len(tiles) > self._tiles_max:
                tiles.popitem(last=False)

    def put_all(self, tiles: tuple[Tile, ...]) -> None:
        """Remember tiles that the writer has just filled."""
        for tile in tiles:
            self.put(tile.level, tile.index, tile.hashes)

    def hashes(self, tile_level: int, number: int) -> bytes:
        """The 8,192 bytes of a full tile; raises TileMissing."""
        with self._lock:
            return self._heights(tile_level, number)[0]

    def node(self, level: int, index: int) -> bytes:
        """A `TileSource`; raises TileMissing."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        number = index >> (TILE_HEIGHT - height)
        with self._lock:
            heights = self._heights(tile_level, number)
            while len(heights) <= height:
                heights.append(_reduce(heights[-1]))
            at = (index - (number << (TILE_HEIGHT - height))) * HASH_BYTES
            return heights[height][at : at + HASH_BYTES]

    def _heights(self, tile_level: int, number: int) -> list[bytes]:
        tiles = self._tiles[tile_level > 0]
        heights = tiles.get((tile_level, number))
        if heights is None:
            raise TileMissing
        tiles.move_to_end((tile_level, number))
        return heights


class StoredTiles:
    """A `TileSource` that reads what the cache lacks."""

    def __init__(self, connection: sqlite3.Connection, cache: TileCache) -> None:
        self._connection = connection
        self._cache = cache

    def node(self, level: int, index: int) -> bytes:
        """Raises Corrupt `tile_missing`."""
        try:
            return self._cache.node(level, index)
        except TileMissing:
            tile_level, height = divmod(level, TILE_HEIGHT)
            number = index >> (TILE_HEIGHT - height)
            self._cache.put(tile_level, number, read_tile(self._connection, tile_level, number))
            return self._cache.node(level, index)


def read_tile(connection: sqlite3.Connection, tile_level: int, number: int) -> bytes:
    """The 8,192 bytes of a full tile (C2SP tlog-tiles). Raises Corrupt `tile_missing`."""
    row = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND number = ?", (tile_level, number)).fetchone()
    if row is None or len(row[0]) != HASH_BYTES << TILE_HEIGHT:
        raise Corrupt("tile_missing", f"expected the full tile {number} of level {tile_level}")
    hashes: bytes = row[0]
    return hashes


def _reduce(hashes: bytes) -> bytes:
    """One height up: each pair of hashes becomes its parent."""
    pair = 2 * HASH_BYTES
    return b"".join([sha256(b"\x01" + hashes[at : at + pair]).digest() for at in range(0, len(hashes), pair)])
