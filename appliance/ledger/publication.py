"""Ties a publication to the tree: which tiles it needs, and that tiles, entries and checkpoint are of one log.

Must never open an entry: what is public is checked without the auditor's key, what he decrypted is checked apart.

Source: docs/formats/publication.md, "Checking"; RFC 9162 section 2.1; https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from appliance.evidence.publication import Publication
from appliance.evidence.publication_root import Root, Scope, TileAt
from appliance.ledger.checkpoint import Checkpoint, claimed_size, verify_checkpoint
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.merkle import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    frontier_from,
    is_consistent,
    leaf_hash,
    node_hash,
)
from appliance.model.errors import Rejected


def tiles_of(first: int, end: int) -> list[TileAt]:
    """Tiles that entries first <= seq < end made full, and the growing ones at `end`, the lowest level first.

    With these the root of `end` can be computed, and every full tile's place under it.
    """
    tiles = []
    for level in range(end.bit_length() // TILE_HEIGHT + 1):
        full_before = first >> TILE_HEIGHT * (level + 1)
        full, width = divmod(end >> TILE_HEIGHT * level, TILE_WIDTH)
        tiles += [TileAt(level=level, number=number, width=TILE_WIDTH) for number in range(full_before, full)]
        if width:
            tiles.append(TileAt(level=level, number=full, width=width))
    return tiles


def verify_publication(publication: Publication, *, origin: str, keys: LogKeys) -> Checkpoint:
    """The checkpoint, if the log's keys of its size signed it and every tile lies under it.

    Raises:
        Rejected: `publication_tiles_wrong`, `publication_not_in_log`, and the codes of `verify_checkpoint`.
    """
    signing = keys.at(claimed_size(publication.checkpoint))
    checkpoint = verify_checkpoint(
        publication.checkpoint, origin=origin, note_key=signing.note_key, post_quantum=signing.keys.post_quantum
    )
    verify_tiles(publication.root, publication.tiles, checkpoint)
    return checkpoint


def verify_tiles(root: Root, tiles: dict[TileAt, bytes], checkpoint: Checkpoint) -> None:
    """Return if `tiles` are those of the root's range and lead to `checkpoint`, which was verified.

    Raises:
        Rejected: `publication_tiles_wrong`, `publication_not_in_log`.
    """
    scope = root.scope
    if scope.origin != checkpoint.origin or root.size != checkpoint.size:
        raise Rejected(
            "publication_not_in_log", f"the root names another log or size than its checkpoint of {checkpoint.origin}"
        )
    if any(len(hashes) != at.width * HASH_BYTES for at, hashes in tiles.items()):
        raise Rejected("publication_tiles_wrong", f"expected tiles of {HASH_BYTES} bytes a hash")
    _check_places(scope, tiles)
    tree = _root_at_end(scope.end, tiles)
    if not is_consistent(scope.end, tree, checkpoint.size, checkpoint.root, root.consistency):
        raise Rejected(
            "publication_not_in_log", f"its tiles do not lead to the checkpoint of {checkpoint.size} entries"
        )


def verify_entries(publication: Publication, entries: Iterable[bytes]) -> Iterator[bytes]:
    """The same entries, each after its hash was found in a verified tile.

    Raises:
        Rejected: `publication_entry_wrong`, naming the first entry that is not the log's.
    """
    leaves = {at.number: hashes for at, hashes in publication.tiles.items() if at.level == 0}
    for seq, entry in enumerate(entries, publication.root.scope.first):
        number, at = divmod(seq, TILE_WIDTH)
        if leaf_hash(entry) != leaves[number][at * HASH_BYTES : (at + 1) * HASH_BYTES]:
            raise Rejected("publication_entry_wrong", f"entry {seq} is not the one whose hash is in the log")
        yield entry


def _check_places(scope: Scope, tiles: dict[TileAt, bytes]) -> None:
    """Each full tile's root is the node of the tile above it that it should be."""
    if list(tiles) != tiles_of(scope.first, scope.end):
        raise Rejected("publication_tiles_wrong", "expected the tiles of its range and no others")
    above = {(at.level, at.number): hashes for at, hashes in tiles.items()}
    for at, hashes in tiles.items():
        if at.width == TILE_WIDTH:
            number, place = divmod(at.number, TILE_WIDTH)
            nodes = above[at.level + 1, number]
            if nodes[place * HASH_BYTES : (place + 1) * HASH_BYTES] != _root_of(hashes):
                raise Rejected(
                    "publication_tiles_wrong", f"tile {at.number} of level {at.level} lies not under the next"
                )


def _root_at_end(end: int, tiles: dict[TileAt, bytes]) -> bytes:
    """Root of the first `end` entries, from the tiles that still grow."""
    growing: dict[int, list[bytes]] = {}
    for at, hashes in tiles.items():
        if at.width < TILE_WIDTH:
            growing[at.level] = _split(hashes)
    levels = range(1, max(growing) + 1)
    return frontier_from(end, [growing.get(level, []) for level in levels], growing.get(0, [])).root()


def _root_of(hashes: bytes) -> bytes:
    def halve(nodes: list[bytes], _height: int) -> list[bytes]:
        return [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes), 2)]

    return reduce(halve, range(TILE_HEIGHT), _split(hashes))[0]


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
