"""The Merkle tree over the commitments of one batch, as one run of bytes that paths are read from by offset.

Owns its layout: every level from the leaves to the root, 32 bytes a node. An odd last node goes up as it is; nobody is
paired with himself, so no leaf can be shown to be there twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from appliance.evidence.ots import SHA256, Step, append, prepend
from appliance.model.invariants import ensure

NODE_BYTES: Final = 32

Reading = Callable[[int, int], bytes]
"""Gives so many bytes of a tree from an offset on."""


def build_tree(leaves: Sequence[bytes]) -> bytes:
    """All levels over `leaves`, which are 32 bytes each; the root comes last."""
    ensure(bool(leaves), "a tree has a leaf")
    sha256 = hashlib.sha256
    level = list(leaves)
    whole = [b"".join(level)]
    while len(level) > 1:
        paired = [sha256(level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        level = [*paired, level[-1]] if len(level) % 2 else paired
        whole.append(b"".join(level))
    return b"".join(whole)


def tree_root(tree: bytes) -> bytes:
    return tree[-NODE_BYTES:]


def tree_steps(read: Reading, leaf_count: int, position: int) -> list[Step]:
    """The steps from the leaf at `position` to the root, reading one sibling a level."""
    steps: list[Step] = []
    begins, count = 0, leaf_count
    while count > 1:
        sibling = position ^ 1
        if sibling < count:
            node = read(begins + sibling * NODE_BYTES, NODE_BYTES)
            steps += [prepend(node) if position % 2 else append(node), SHA256]
        begins += count * NODE_BYTES
        position, count = position // 2, -(-count // 2)
    return steps
