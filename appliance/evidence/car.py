"""CARv1: blocks in one file under one root, as nodes import and export them.

Owns the file's bytes. Must never hand out a block that is not what its address says.

Source: docs/formats/publication.md; https://ipld.io/specs/transport/car/carv1/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.evidence import dag_cbor
from appliance.evidence.cid import CID_BYTES, cid_text, dag_cbor_cid, is_of, raw_cid, read_cid
from appliance.evidence.dag_cbor import Link
from appliance.model.errors import Rejected
from appliance.model.ids import Cid

BLOCK_BYTES_MAX: Final = 1 << 20
"""What every node accepts from every other; larger blocks are not exchanged."""
_HEADER_BYTES_MAX: Final = 4096
_VARINT_BYTES_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes and their address."""

    cid: Cid
    content: bytes


@dataclass(frozen=True, slots=True)
class Car:
    """A whole file: every block it names is here once, in the file's order."""

    root: Cid
    blocks: dict[Cid, bytes]


def raw_block(content: bytes) -> Block:
    """Bytes that nobody interprets."""
    return Block(raw_cid(content), content)


def dag_cbor_block(value: object) -> Block:
    """A value that may hold links."""
    content = dag_cbor.encode(value)
    return Block(dag_cbor_cid(content), content)


def car_of(root: Cid, blocks: Iterable[Block]) -> Car:
    """`blocks` under `root`, a block that comes twice once."""
    return Car(root, {block.cid: block.content for block in blocks})


def write_car(car: Car) -> bytes:
    """The file."""
    header = dag_cbor.encode({"roots": [Link(car.root)], "version": 1})
    sections = [_varint(len(header)), header]
    for cid, content in car.blocks.items():
        sections += (_varint(CID_BYTES + len(content)), cid, content)
    return b"".join(sections)


def read_car(encoded: bytes) -> Car:
    """The file's root and blocks, each compared with its address.

    Raises:
        Rejected: `car_malformed`: not a CARv1 with one root that it holds, or with a block that is cut short or too
            large; `car_block_differs`: a block's bytes are not what its address says; `cid_malformed`,
            `dag_cbor_malformed`.
    """
    header, at = _section(encoded, 0, _HEADER_BYTES_MAX)
    match dag_cbor.decode(header, size_max=_HEADER_BYTES_MAX):
        case {"roots": [Link(root)], "version": 1, **rest} if not rest:
            pass
        case _:
            raise _malformed("a header of version 1 with one root")
    blocks: dict[Cid, bytes] = {}
    while at < len(encoded):
        section, at = _section(encoded, at, CID_BYTES + BLOCK_BYTES_MAX)
        cid, content = read_cid(section[:CID_BYTES]), section[CID_BYTES:]
        if not is_of(cid, content):
            raise Rejected("car_block_differs", f"the bytes of block {cid_text(cid)} are others")
        blocks[cid] = content
    if root not in blocks:
        raise _malformed("the root among the blocks")
    return Car(root, blocks)


def _section(encoded: bytes, at: int, size_max: int) -> tuple[bytes, int]:
    """What stands behind the length at offset `at`, and where it ends."""
    size = shift = 0
    for index in range(at, at + _VARINT_BYTES_MAX):
        if index >= len(encoded):
            break
        size |= (encoded[index] & 0x7F) << shift
        shift += 7
        if encoded[index] < 0x80:
            end = index + 1 + size
            if size > size_max or end > len(encoded) or _varint(size) != encoded[at : index + 1]:
                break
            return encoded[index + 1 : end], end
    raise _malformed(f"whole sections of at most {size_max} bytes behind their lengths")


def _varint(number: int) -> bytes:
    """Unsigned LEB128, as multiformats write lengths."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _malformed(expected: str) -> Rejected:
    return Rejected("car_malformed", f"expected {expected}")
