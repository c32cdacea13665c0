"""dag-cbor: the project's strict CBOR with links, for blocks that name other blocks.

Owns the one tag (42, a CID) and what dag-cbor takes away: map keys are text. Everything else is `crypto/cbor.py`, whose
order of map keys is the same for text. Must never accept a second encoding of a value: a block's address would differ.

Source: docs/formats/publication.md; https://ipld.io/specs/codecs/dag-cbor/spec/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, Union

from appliance.crypto import cbor
from appliance.evidence.cid import CID_BYTES, read_cid
from appliance.model.errors import Bug, Rejected
from appliance.model.ids import Cid

DEPTH_MAX: Final = 8
# Tag 42 around a byte string of 37: the identity multibase prefix 0x00, then the CID.
_LINK: Final = b"\xd8\x2a\x58\x25\x00"
_SIMPLE: Final[dict[int, bool | None]] = {0xF4: False, 0xF5: True, 0xF6: None}


@dataclass(frozen=True, slots=True)
class Link:
    """A block named by another: what a node follows when it pins."""

    cid: Cid


Value: TypeAlias = Union[bool, int, bytes, str, Link, "list[Value]", "dict[str, Value]", None]


def encode(value: object) -> bytes:
    """The one encoding of `value`; a value outside the subset raises `Bug`."""
    if type(value) is Link:
        return _LINK + value.cid
    if type(value) is dict:
        pairs = sorted([(_key(key), encode(item)) for key, item in value.items()])
        return cbor.map_head(len(pairs)) + b"".join([key + item for key, item in pairs])
    if type(value) is list or type(value) is tuple:
        return cbor.array_head(len(value)) + b"".join([encode(item) for item in value])
    return cbor.encode(value)


def decode(block: bytes, *, size_max: int) -> Value:
    """The value of a block. Raises Rejected `dag_cbor_malformed`."""
    if len(block) > size_max:
        raise _malformed(f"at most {size_max} bytes, saw {len(block)}")
    try:
        value, end = _read(block, 0, DEPTH_MAX)
    except IndexError as cause:
        raise _malformed("a whole item") from cause
    # Encoding again refuses what the reader let pass: longer heads, other orders, keys twice, bytes behind the end.
    if end != len(block) or encode(value) != block:
        raise _malformed("the one encoding of its value")
    return value


def _key(key: object) -> bytes:
    if type(key) is not str:
        raise Bug("cbor_forbidden_type", f"a map key in dag-cbor is text, not {type(key).__name__}")
    return cbor.encode(key)


def _read(block: bytes, at: int, depth_left: int) -> tuple[Value, int]:
    """The item at offset `at`, and where it ends; IndexError when the bytes end first."""
    if block.startswith(_LINK, at):
        end = at + len(_LINK) + CID_BYTES
        return Link(read_cid(block[at + len(_LINK) : end])), end
    initial, major = block[at], block[at] >> 5
    if initial in _SIMPLE:
        return _SIMPLE[initial], at + 1
    argument, at = _argument(block, at)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major in (2, 3):
        end = at + argument
        if end > len(block):
            raise IndexError
        return block[at:end] if major == 2 else _text(block[at:end]), end
    if major not in (4, 5) or depth_left == 0:
        raise _malformed(f"integers, strings, links, lists and maps, at most {DEPTH_MAX} deep")
    if major == 4:
        return _read_list(block, at, argument, depth_left - 1)
    return _read_map(block, at, argument, depth_left - 1)


def _argument(block: bytes, at: int) -> tuple[int, int]:
    information = block[at] & 31
    if information < 24:
        return information, at + 1
    if information > 27:
        raise _malformed("definite lengths")
    end = at + 1 + (1 << information - 24)
    if end > len(block):
        raise IndexError
    return int.from_bytes(block[at + 1 : end], "big"), end


def _read_list(block: bytes, at: int, count: int, depth_left: int) -> tuple[Value, int]:
    items: list[Value] = []
    for _ in range(count):  # a huge count ends with the bytes: each item takes at least one
        item, at = _read(block, at, depth_left)
        items.append(item)
    return items, at


def _read_map(block: bytes, at: int, count: int, depth_left: int) -> tuple[Value, int]:
    pairs: dict[str, Value] = {}
    for _ in range(count):
        key, at = _read(block, at, 0)
        if type(key) is not str:
            raise _malformed("map keys of text")
        pairs[key], at = _read(block, at, depth_left)
    return pairs, at


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError as cause:
        raise _malformed("text in UTF-8") from cause


def _malformed(expected: str) -> Rejected:
    return Rejected("dag_cbor_malformed", f"expected {expected}")
