"""The root block of a publication: what it covers, for whom, and the address of everything else.

Owns the block's shape. Must never hold the blocks themselves: a root is read before anything it names is fetched.

* `previous` is no link: a node that pins this publication must not walk the whole history.

Source: docs/formats/publication.md, version 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.evidence import dag_cbor
from appliance.evidence.car import BLOCK_BYTES_MAX, Block, dag_cbor_block
from appliance.evidence.cid import is_raw, read_cid
from appliance.evidence.dag_cbor import Link, Value
from appliance.model.errors import Rejected
from appliance.model.ids import Cid
from appliance.model.invariants import ensure

VERSION: Final = 1
PURPOSE: Final = "tillstone/publication/v1"
ENTRIES_MAX: Final = 4_096
TILE_LEVEL_MAX: Final = 7
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Entries first <= seq < end of the log `origin`."""

    origin: str
    first: int
    end: int

    def __post_init__(self) -> None:
        ensure(0 <= self.first < self.end <= self.first + ENTRIES_MAX, f"a publication has 1 to {ENTRIES_MAX} entries")

    def info(self) -> bytes:
        """What a content key is derived and sealed for."""
        return cbor.encode([PURPOSE, self.origin, self.first, self.end])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """For whom: `recipient` is SHA-256 of the public key, `seal` the content key under it."""

    recipient: bytes
    seal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAt:
    """Tile `number` of `level` (C2SP tlog-tiles) with `width` hashes, 1 to 256."""

    level: int
    number: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkAt:
    """`count` entries from `first` on, encrypted together."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The block's content.

    Attributes:
        size: entries under the checkpoint; at least the scope's end.
        consistency: proof from the scope's end to `size` (RFC 9162); empty when they are equal.
        previous: root of the publication before this one, None for the first.
    """

    scope: Scope
    size: int
    checkpoint: Cid
    consistency: tuple[bytes, ...]
    sealing: Sealing
    previous: Cid | None
    tiles: dict[TileAt, Cid]
    chunks: dict[ChunkAt, Cid]

    def block(self) -> Block:
        """The block and its address."""
        return dag_cbor_block(
            {
                "checkpoint": Link(self.checkpoint),
                "consistency": self.consistency,
                "end": self.scope.end,
                "entries": [[at.first, at.count, Link(cid)] for at, cid in self.chunks.items()],
                "first": self.scope.first,
                "origin": self.scope.origin,
                "previous": self.previous,
                "recipient": self.sealing.recipient,
                "seal": self.sealing.seal,
                "size": self.size,
                "tiles": [[at.level, at.number, at.width, Link(cid)] for at, cid in self.tiles.items()],
                "version": VERSION,
            }
        )

    def links(self) -> list[Cid]:
        """Every block that the root names, once."""
        return list(dict.fromkeys([self.checkpoint, *self.tiles.values(), *self.chunks.values()]))


def read_root(block: bytes) -> Root:
    """The root in a block. Raises Rejected `publication_malformed`, `dag_cbor_malformed`, `cid_malformed`."""
    match dag_cbor.decode(block, size_max=BLOCK_BYTES_MAX):
        case {
            "checkpoint": Link(checkpoint),
            "consistency": list(consistency),
            "end": int(end),
            "entries": list(entries),
            "first": int(first),
            "origin": str(origin),
            "previous": bytes() | None as previous,
            "recipient": bytes(recipient),
            "seal": bytes(seal),
            "size": int(size),
            "tiles": list(tiles),
            "version": 1,
            **rest,
        } if not rest and 0 <= first < end <= min(size, first + ENTRIES_MAX):
            root = Root(
                scope=Scope(origin=origin, first=first, end=end),
                size=size,
                checkpoint=checkpoint,
                consistency=tuple([_hash(item) for item in consistency]),
                sealing=Sealing(recipient=recipient, seal=seal),
                previous=None if previous is None else read_cid(previous),
                tiles=dict([_tile(item) for item in tiles]),
                chunks=dict([_chunk(item) for item in entries]),
            )
        case _:
            raise malformed("a root of version 1")
    if root.block().content != block or not is_raw(checkpoint):
        raise malformed("each tile and chunk once, and a raw checkpoint")
    ends = [at.first + at.count for at in root.chunks]
    if [*(at.first for at in root.chunks), end] != [first, *ends]:
        raise malformed("chunks that follow each other from first to end")
    return root


def malformed(expected: str) -> Rejected:
    """The refusal of a publication that breaks the format."""
    return Rejected("publication_malformed", f"expected {expected}")


def _hash(item: Value) -> bytes:
    if type(item) is not bytes or len(item) != _HASH_BYTES:
        raise malformed("a consistency proof of hashes")
    return item


def _tile(item: Value) -> tuple[TileAt, Cid]:
    match item:
        case [int(level), int(number), int(width), Link(cid)] if (
            0 <= level <= TILE_LEVEL_MAX and number >= 0 and 1 <= width <= 256 and is_raw(cid)
        ):
            return TileAt(level=level, number=number, width=width), cid
        case _:
            raise malformed("tiles as level, number, width and link")


def _chunk(item: Value) -> tuple[ChunkAt, Cid]:
    match item:
        case [int(first), int(count), Link(cid)] if first >= 0 and 1 <= count <= ENTRIES_MAX and is_raw(cid):
            return ChunkAt(first=first, count=count), cid
        case _:
            raise malformed("chunks as first, count and link")
