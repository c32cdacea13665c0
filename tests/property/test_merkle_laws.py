"""Laws of the tree: against the published proofs, and against the recursive definition of RFC 9162 section 2.1."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ledger.merkle import (
    EMPTY_ROOT,
    TILE_HEIGHT,
    Frontier,
    Tile,
    Tree,
    frontier_from,
    is_consistent,
    leaf_hash,
    node_hash,
    root_from_inclusion,
)

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "rfc6962_proofs.json.gz"
LEAVES = [leaf_hash(b"%d" % index) for index in range(1400)]


class Case(TypedDict):
    root: str
    leafHash: str
    leafIdx: int
    treeSize: int
    size1: int
    size2: int
    root1: str
    root2: str
    proof: list[str] | None
    wantErr: bool


class TilesInMemory:
    """Full tiles by (level, index), nodes by plain recursion."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        self.tiles = {(tile.level, tile.index): tile for tile in tiles}

    def node(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        tile = self.tiles[tile_level, first >> TILE_HEIGHT]
        start = (first & 255) * 32
        return recursive_root([tile.hashes[at : at + 32] for at in range(start, start + (32 << height), 32)])


def recursive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH, written as the RFC writes it."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


def grown(size: int) -> tuple[Frontier, list[Tile]]:
    frontier, tiles = Frontier(), list[Tile]()
    frontier.extend(LEAVES[:size], tiles)
    return frontier, tiles


def published(folder: str) -> list[tuple[str, Case]]:
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS.name} is absent from ../shared/vectors")
    cases: dict[str, Case] = json.loads(gzip.decompress(VECTORS.read_bytes()))
    return [(name, case) for name, case in cases.items() if name.startswith(folder)]


def test_published_inclusion_proofs_are_judged_as_published() -> None:
    for name, case in published("inclusion"):
        path = [base64.b64decode(node) for node in case["proof"] or ()]
        leaf = base64.b64decode(case["leafHash"])
        proven = root_from_inclusion(leaf, case["leafIdx"], case["treeSize"], path)
        assert (proven != base64.b64decode(case["root"])) is case["wantErr"], name


def test_published_consistency_proofs_are_judged_as_published() -> None:
    for name, case in published("consistency"):
        path = [base64.b64decode(node) for node in case["proof"] or ()]
        root1, root2 = base64.b64decode(case["root1"]), base64.b64decode(case["root2"])
        holds = is_consistent(case["size1"], root1, case["size2"], root2, path)
        assert holds is not case["wantErr"], name


@given(size=st.integers(0, 1400))
def test_frontier_root_is_the_recursive_root(size: int) -> None:
    assert grown(size)[0].root() == recursive_root(LEAVES[:size])


@settings(deadline=None)
@given(data=st.data(), grown_to=st.integers(1, 1400))
def test_every_leaf_is_proven_under_every_size_reached(data: st.DataObject, grown_to: int) -> None:
    size = data.draw(st.integers(1, grown_to))
    index = data.draw(st.integers(0, size - 1))
    frontier, tiles = grown(grown_to)
    path = Tree(frontier, TilesInMemory(tiles)).inclusion_proof(index, size)
    assert root_from_inclusion(LEAVES[index], index, size, path) == recursive_root(LEAVES[:size])


@settings(deadline=None)
@given(data=st.data(), grown_to=st.integers(1, 1400))
def test_every_size_is_consistent_with_every_later_one(data: st.DataObject, grown_to: int) -> None:
    size2 = data.draw(st.integers(1, grown_to))
    size1 = data.draw(st.integers(1, size2))
    frontier, tiles = grown(grown_to)
    path = Tree(frontier, TilesInMemory(tiles)).consistency_proof(size1, size2)
    root1, root2 = recursive_root(LEAVES[:size1]), recursive_root(LEAVES[:size2])
    assert is_consistent(size1, root1, size2, root2, path)
    assert not is_consistent(size1, leaf_hash(b"other"), size2, root2, path)


@given(size=st.integers(2, 300), data=st.data())
def test_a_changed_proof_proves_nothing(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    frontier, tiles = grown(size)
    path = list(Tree(frontier, TilesInMemory(tiles)).inclusion_proof(index, size))
    at = data.draw(st.integers(0, len(path) - 1))
    path[at] = leaf_hash(path[at])
    assert root_from_inclusion(LEAVES[index], index, size, path) != frontier.root()
    assert root_from_inclusion(LEAVES[index], index, size, path[:-1]) != frontier.root()


@given(size=st.integers(0, 1400))
def test_a_frontier_rebuilt_from_tile_roots_equals_the_grown_one(size: int) -> None:
    frontier, tiles = grown(size)
    roots = [[tile.root for tile in tiles if tile.level == 0]]
    rebuilt = frontier_from(size, roots, LEAVES[size - size % 256 : size])
    assert rebuilt.root() == frontier.root()
    rebuilt_tiles, grown_tiles = list[Tile](), list[Tile]()
    rebuilt.append(LEAVES[0], rebuilt_tiles)
    frontier.append(LEAVES[0], grown_tiles)
    assert rebuilt.root() == frontier.root()
    assert rebuilt_tiles == grown_tiles


def test_a_copied_frontier_keeps_no_trace_of_the_copy() -> None:
    frontier, _ = grown(300)
    before = frontier.root()
    frontier.copy().extend(LEAVES[:300], [])
    assert (frontier.root(), frontier.size) == (before, 300)
