"""A publication: a range of the log as linked blocks, its hashes for everybody, its entries for the auditor alone.

Owns which blocks there are and how entries are encrypted. Must never decide what is published or verify a proof: it has
no tree and no keys of the log.

* The same range under the same key gives the same bytes: what a node lost is made again under its old addresses.
* Each publication has a content key of its own, sealed to the auditor; a nonce is an entry's number, so none repeats.

Source: docs/formats/publication.md, version 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto import cbor, hpke
from appliance.evidence.car import Car, car_of, raw_block
from appliance.evidence.publication_root import (
    PURPOSE,
    ChunkAt,
    Root,
    Scope,
    Sealing,
    TileAt,
    malformed,
    read_root,
)
from appliance.model.errors import Rejected
from appliance.model.ids import Cid
from appliance.model.invariants import ensure

KEY_BYTES: Final = 32
CHUNK_BYTES_MAX: Final = 256 << 10
RECORD_LENGTH_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What ties a range to a checkpoint.

    Attributes:
        checkpoint: signed note of a head of `size` entries, at least the range's end.
        consistency: proof from the range's end to `size` (RFC 9162); empty when they are equal.
    """

    checkpoint: bytes
    size: int
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A root and the bytes of what it names: `tiles` are hashes, `chunks` encrypted entries, both in order."""

    root: Root
    checkpoint: bytes
    tiles: dict[TileAt, bytes]
    chunks: dict[ChunkAt, bytes]

    def entries(self, content_key: bytes) -> Iterator[bytes]:
        """Every entry in order. Raises Rejected `publication_not_ours`, `publication_malformed`."""
        for at, encrypted in self.chunks.items():
            try:
                records = AESGCM(content_key).decrypt(_nonce(at), encrypted, _info(self.root.scope, at))
            except InvalidTag as cause:
                raise Rejected("publication_not_ours", f"entries from {at.first} on do not open") from cause
            yield from _read_records(records, at.count)


def make_publication(
    scope: Scope,
    *,
    evidence: Evidence,
    tiles: dict[TileAt, bytes],
    entries: Sequence[bytes],
    sealing: Sealing,
    content_key: bytes,
    previous: Cid | None,
) -> Car:
    """The blocks, the root first: a pure function of its arguments."""
    ensure(len(entries) == scope.end - scope.first, "a publication holds each entry of its range")
    cipher = AESGCM(content_key)
    checkpoint = raw_block(evidence.checkpoint)
    tile_blocks = {at: raw_block(hashes) for at, hashes in tiles.items()}
    chunk_blocks = {
        at: raw_block(cipher.encrypt(_nonce(at), records, _info(scope, at)))
        for at, records in _chunks(scope.first, entries)
    }
    root = Root(
        scope=scope,
        size=evidence.size,
        checkpoint=checkpoint.cid,
        consistency=evidence.consistency,
        sealing=sealing,
        previous=previous,
        tiles={at: block.cid for at, block in tile_blocks.items()},
        chunks={at: block.cid for at, block in chunk_blocks.items()},
    ).block()
    return car_of(root.cid, [root, checkpoint, *tile_blocks.values(), *chunk_blocks.values()])


def read_publication(car: Car) -> Publication:
    """The publication in a file: every block that its root names is there and fits its place.

    Raises:
        Rejected: `publication_malformed`, `publication_incomplete`, `dag_cbor_malformed`, `cid_malformed`.
    """
    root = read_root(car.blocks[car.root])
    missing = sum(cid not in car.blocks for cid in root.links())
    if missing:
        raise Rejected("publication_incomplete", f"{missing} of the blocks that the root names are not in the file")
    tiles = {at: car.blocks[cid] for at, cid in root.tiles.items()}
    if any(len(hashes) != at.width * _HASH_BYTES for at, hashes in tiles.items()):
        raise malformed("tiles of 32 bytes a hash")
    return Publication(
        root=root,
        checkpoint=car.blocks[root.checkpoint],
        tiles=tiles,
        chunks={at: car.blocks[cid] for at, cid in root.chunks.items()},
    )


def seal_content_key(recipient: hpke.Recipient, scope: Scope, content_key: bytes) -> Sealing:
    """The content key for the auditor; different each time, so it is made once and kept."""
    ensure(len(content_key) == KEY_BYTES, "a content key has 32 bytes")
    return Sealing(recipient=recipient.key_id, seal=recipient.seal(content_key, scope.info()))


def open_content_key(root: Root, seed: bytes) -> bytes:
    """The content key, by the auditor's private key. Raises Rejected `seal_refused`, `publication_malformed`."""
    key = hpke.open_sealed(seed, root.sealing.seal, root.scope.info())
    if len(key) != KEY_BYTES:
        raise malformed("a content key of 32 bytes")
    return key


def _chunks(first: int, entries: Sequence[bytes]) -> Iterator[tuple[ChunkAt, bytes]]:
    """Entries behind their lengths; a chunk ends before the entry that would take it over CHUNK_BYTES_MAX."""
    records: list[bytes] = []
    size_bytes = 0
    for seq, entry in enumerate(entries, first):
        record = len(entry).to_bytes(RECORD_LENGTH_BYTES, "big") + entry
        if records and size_bytes + len(record) > CHUNK_BYTES_MAX:
            yield ChunkAt(first=seq - len(records), count=len(records)), b"".join(records)
            records, size_bytes = [], 0
        records.append(record)
        size_bytes += len(record)
    yield ChunkAt(first=first + len(entries) - len(records), count=len(records)), b"".join(records)


def _read_records(records: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        start = at + RECORD_LENGTH_BYTES
        at = start + int.from_bytes(records[start - RECORD_LENGTH_BYTES : start], "big")
        if at > len(records):
            raise malformed("whole entries behind their lengths")
        yield records[start:at]
    if at != len(records):
        raise malformed("as many entries as the root says")


def _nonce(at: ChunkAt) -> bytes:
    return at.first.to_bytes(_NONCE_BYTES, "big")


def _info(scope: Scope, at: ChunkAt) -> bytes:
    return cbor.encode([PURPOSE, scope.origin, at.first, at.count])
