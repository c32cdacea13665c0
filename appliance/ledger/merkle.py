"""The RFC 9162 tree over leaf hashes: frontier, nodes, proofs and their verification.

Owns the arithmetic of section 2.1. Must never touch storage: whoever keeps full tiles hands them in as a
`TileSource`. Verification needs neither frontier nor tiles and is what a stranger runs.

* A *node* (level, index) is the root of the complete subtree over leaves [index * 2^level, (index + 1) * 2^level).
* A *tile* (C2SP tlog-tiles) holds 256 consecutive nodes of level 8 * tile level; full tiles never change.
* The *frontier* keeps, for each tile level, the nodes of the one tile that is not yet full. Any node below a size
  is in a full tile or in the frontier of that size or of any later one: proofs for old sizes need no old state.

Source: RFC 9162 section 2.1; https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from appliance.model.invariants import ensure

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

PROOF_HASHES_MAX = 64  # a tree of 2^63 leaves; anything longer is refused before hashing


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A full tile: `hashes` is 256 * 32 bytes, `root` their common ancestor, node (8 * (level + 1), index)."""

    level: int
    index: int
    hashes: bytes
    root: bytes


class TileSource(Protocol):
    """Where full tiles are read; `index` is below the number of full tiles at `level`."""

    def node(self, level: int, index: int) -> bytes:
        """The node (level, index); its tile is full."""
        ...


def leaf_hash(entry: bytes) -> bytes:
    """Leaf of the tree: SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Interior node: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge: every node of the not yet full tiles. Grows by `append`; a published one is never changed.

    `_tiles[k][h]` are the nodes of height h (0..7) inside the growing tile of tile level k.
    """

    __slots__ = ("_tiles", "size")

    def __init__(self) -> None:
        self.size = 0
        self._tiles: list[list[list[bytes]]] = []

    def copy(self) -> Frontier:
        """An independent frontier: the writer extends a copy, so a rolled back group leaves no trace."""
        twin = Frontier()
        twin.size = self.size
        twin._tiles = [[heights.copy() for heights in tile] for tile in self._tiles]
        return twin

    def append(self, leaf: bytes, full: list[Tile]) -> None:
        """Add one leaf; tiles that become full are put on `full`, the lowest level first."""
        self.size += 1
        self._push(0, leaf, full)

    def extend(self, leaves: Sequence[bytes], full: list[Tile]) -> None:
        """Add leaves in order."""
        for leaf in leaves:
            self.size += 1
            self._push(0, leaf, full)

    def _push(self, tile_level: int, node: bytes, full: list[Tile]) -> None:
        if tile_level == len(self._tiles):
            self._tiles.append([[] for _ in range(TILE_HEIGHT)])
        tile = self._tiles[tile_level]
        for nodes in tile:
            nodes.append(node)
            if len(nodes) & 1:
                return
            node = sha256(b"\x01" + nodes[-2] + node).digest()
        # Height 8 was reached: the tile is full and `node` is its root, one node of the tile level above.
        index = (self.size >> (TILE_HEIGHT * (tile_level + 1))) - 1
        full.append(Tile(level=tile_level, index=index, hashes=b"".join(tile[0]), root=node))
        for nodes in tile:
            nodes.clear()
        self._push(tile_level + 1, node, full)

    def node(self, level: int, index: int) -> bytes | None:
        """Node (level, index) if its tile is still growing, else None."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        if tile_level >= len(self._tiles):
            return None
        first = (self.size >> (TILE_HEIGHT * (tile_level + 1))) << (TILE_HEIGHT - height)
        position = index - first
        return self._tiles[tile_level][height][position] if position >= 0 else None

    def root(self) -> bytes:
        """The root over all leaves (RFC 9162 section 2.1.1): complete subtrees folded from the right."""
        if self.size == 0:
            return EMPTY_ROOT
        result = b""
        for level in range(self.size.bit_length()):
            if self.size >> level & 1:
                node = self.node(level, (self.size >> level) - 1)
                ensure(node is not None, "the frontier holds the last complete subtree of each level")
                result = node_hash(node or b"", result) if result else node or b""
        return result


def frontier_from(size: int, tile_roots: Sequence[Sequence[bytes]], leaves: Sequence[bytes]) -> Frontier:
    """Rebuild a frontier: `tile_roots[k]` are the roots of the full tiles of level k that lie in a growing tile above.

    `leaves` are the leaf hashes behind the last full tile of level 0.
    """
    frontier = Frontier()
    none_full: list[Tile] = []
    for tile_level in range(len(tile_roots), 0, -1):
        # `_push` never overflows here (fewer than 256 nodes), so `size` is only needed at the end.
        for root in tile_roots[tile_level - 1]:
            while len(frontier._tiles) < tile_level:
                frontier._tiles.append([[] for _ in range(TILE_HEIGHT)])
            frontier._push(tile_level, root, none_full)
    for leaf in leaves:
        frontier._push(0, leaf, none_full)
    ensure(not none_full, "a growing tile has fewer than 256 nodes")
    frontier.size = size
    return frontier


_KNOWN_MAX = 8_192  # subtrees a tree remembers, about 1 MB


class Tree:
    """Nodes of everything up to a frontier, and the proofs made of them.

    Remembers the subtrees it was asked for: the proofs of one group share most of them.
    """

    __slots__ = ("_frontier", "_known", "_tiles")

    def __init__(self, frontier: Frontier, tiles: TileSource) -> None:
        self._frontier = frontier
        self._tiles = tiles
        self._known: dict[tuple[int, int], bytes] = {}

    def root(self, size: int) -> bytes:
        """Root of the first `size` leaves."""
        ensure(0 <= size <= self._frontier.size, "a root is asked for a size the tree has reached")
        return EMPTY_ROOT if size == 0 else self._subtree(0, size)

    def leaf(self, index: int) -> bytes:
        """The leaf hash of entry `index`."""
        ensure(0 <= index < self._frontier.size, "a leaf is asked for that the tree has")
        return self._subtree(index, index + 1)

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """PATH(index, D_size) of RFC 9162 section 2.1.3.1, the leaf's sibling first."""
        ensure(0 <= index < size <= self._frontier.size, "an inclusion proof is asked for a leaf inside a reached size")
        path: list[bytes] = []
        known = self._known
        width = 1
        while width < size:
            # The sibling at this height, if the tree has one: whole, or what there is of it at the right end.
            start = (index // width ^ 1) * width
            if start < size:
                end = min(start + width, size)
                path.append(known.get((start, end)) or self._subtree(start, end))
            width <<= 1
        return tuple(path)

    def consistency_proof(self, size1: int, size2: int) -> tuple[bytes, ...]:
        """PROOF(size1, D_size2) of RFC 9162 section 2.1.4.1."""
        ensure(0 < size1 <= size2 <= self._frontier.size, "a consistency proof is asked for two reached sizes")
        path: list[bytes] = []
        start, end = 0, size2
        # `start` stays 0 exactly while size1's own root is still the subtree in question; then it is known, not sent.
        while size1 != end:
            split = start + _largest_power_below(end - start)
            if size1 <= split:
                path.append(self._subtree(split, end))
                end = split
            else:
                path.append(self._subtree(start, split))
                start = split
        if start != 0:
            path.append(self._subtree(start, end))
        path.reverse()
        return tuple(path)

    def _subtree(self, start: int, end: int) -> bytes:
        """MTH over leaves [start, end): a node when complete, else a ragged right end."""
        known = self._known.get((start, end))
        if known is None:
            known = self._hash_subtree(start, end)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[start, end] = known
        return known

    def _hash_subtree(self, start: int, end: int) -> bytes:
        width = end - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            node = self._frontier.node(level, start >> level)
            return node if node is not None else self._tiles.node(level, start >> level)
        split = start + _largest_power_below(width)
        return node_hash(self._subtree(start, split), self._subtree(split, end))


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that `path` proves for `leaf` at `index` (RFC 9162 section 2.1.3.2), None if the path cannot fit."""
    if not 0 <= index < size or not _are_hashes((leaf, *path)):
        return None
    node, last, result = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    return result if last == 0 else None


def is_consistent(size1: int, root1: bytes, size2: int, root2: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` proves that the tree of size2 extends the tree of size1 (RFC 9162 section 2.1.4.2)."""
    if not 0 < size1 <= size2 or not _are_hashes(path):
        return False
    if size1 == size2:
        return not path and root1 == root2
    hashes = list(path)
    if size1 & (size1 - 1) == 0:
        hashes.insert(0, root1)
    if not hashes:
        return False
    node, last = size1 - 1, size2 - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old == root1 and new == root2


def _largest_power_below(count: int) -> int:
    """The largest power of two smaller than `count` (k in RFC 9162)."""
    return 1 << ((count - 1).bit_length() - 1)


def _are_hashes(hashes: Sequence[bytes]) -> bool:
    return len(hashes) <= PROOF_HASHES_MAX + 2 and all(len(value) == HASH_BYTES for value in hashes)
