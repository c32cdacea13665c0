"""Strict deterministic CBOR: the only codec of everything that is signed, hashed or stored.

Owns the core deterministic encoding of RFC 8949 section 4.2.1, narrowed to integers of 64 bits, byte and text strings,
arrays, maps with text or integer keys, true, false and null. One value has one encoding; every other byte string is
refused. Must never accept a tag, a float, an indefinite length or a second way to write the same value.

cbor2 does the fast work and is not trusted with strictness: what it decoded is walked, encoded again and compared with
the input. Only when something disagrees does `_explain` read the bytes itself to name the fault. cbor2's own
`canonical=True` is not used: it sorts by length first (RFC 7049), which puts -1 (0x20) before 24 (0x18 0x18).

Source: docs/formats/cbor.md.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final, NoReturn, TypeAlias, Union

import cbor2

from appliance.model.errors import Bug, Corrupt, Rejected
from appliance.model.invariants import ensure

Value: TypeAlias = Union[bool, int, bytes, str, "list[Value]", "dict[str | int, Value]", None]

DEPTH_MAX: Final = 16
_INTEGER_MAX: Final = (1 << 64) - 1
_SCALARS: Final = frozenset({int, str, bytes, bool, type(None)})
# The smallest number that may use an argument of that many bytes (RFC 8949 section 4.2.1: shortest form).
_SMALLEST_ARGUMENT: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
# Names of members that stood in order: the same few sets arrive all day. Bounded in count and size, because a caller
# need not be who it says.
_REMEMBERED_MAX: Final = 1024
_REMEMBERED_KEYS_SIZE_MAX: Final = 512
_REMEMBERED_DIGITS_MAX: Final = 12  # a card number sent as a name is not kept in memory
_ordered_texts: Final[set[tuple[str, ...]]] = set()
_SHORT_HEADS: Final = tuple(bytes((initial,)) for initial in range(256))


class _TagSeen(Exception):
    """Stops cbor2 at the first tag, before it builds anything from it (tag 35 would compile a regular expression)."""


def encode(value: object) -> bytes:
    """The one encoding of `value`; a value outside the subset is our own mistake and raises `Bug`."""
    if type(value) is str:
        encoded = value.encode("utf-8")
        return head(3, len(encoded)) + encoded
    if type(value) is int:
        return integer(value)
    if type(value) is bytes:
        return byte_string(value)
    if type(value) is dict:
        # Encoded keys are never prefixes of each other, so sorting whole pairs sorts by key.
        pairs = sorted([_cached_key(key) + encode(item) for key, item in value.items()])
        return head(5, len(pairs)) + b"".join(pairs)
    if type(value) is list or type(value) is tuple:
        return head(4, len(value)) + b"".join([encode(item) for item in value])
    if value is None or type(value) is bool:
        return b"\xf6" if value is None else b"\xf5" if value else b"\xf4"
    raise Bug("cbor_forbidden_type", f"a {type(value).__name__} has no place in the CBOR subset")


def encode_ordered(value: object) -> bytes:
    """The same, four times as fast, for a value that is plain and whose maps are in order already.

    Such is what `decode` returned, and `msgspec.to_builtins` of a wire shape (`wire.requests.Wire`).
    """
    encoded: bytes = cbor2.dumps(value)
    return encoded


def decode(data: bytes, *, size_max: int, depth_max: int = DEPTH_MAX) -> Value:
    """The value that `data` encodes.

    Args:
        size_max: bytes; checked before anything is read.
        depth_max: nested containers; `[[1]]` has depth 2.
    Raises:
        Rejected: `cbor_too_large`, `cbor_too_deep`, `cbor_malformed`, `cbor_trailing_bytes`, `cbor_forbidden_type`,
            `cbor_duplicate_key`, `cbor_not_canonical`.
    Source: docs/formats/cbor.md.
    """
    if len(data) > size_max:
        raise Rejected("cbor_too_large", f"expected at most {size_max} bytes, saw {len(data)}")
    try:
        value: Value = cbor2.loads(
            data,
            max_depth=depth_max,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSED_TAGS,
        )
    except (cbor2.CBORError, _TagSeen) as cause:
        _explain(data, depth_max, cause)
    # A key such as True or a list survives cbor2; the walk sees it. Everything else shows as different bytes.
    if (type(value) in _SCALARS or _is_plain_and_ordered(value)) and cbor2.dumps(value) == data:
        return value
    _explain(data, depth_max, None)


def decode_ours(data: bytes) -> Value:
    """The same, a third of the time, for bytes that `encode` wrote and a hash protects: their form is not proven again.

    Raises:
        Corrupt: `cbor_unreadable`.
    """
    try:
        value: Value = cbor2.loads(data, max_depth=DEPTH_MAX, tag_hook=_refuse_tag, semantic_decoders=_REFUSED_TAGS)
    except (cbor2.CBORError, _TagSeen) as cause:
        raise Corrupt("cbor_unreadable", "expected CBOR that this box wrote") from cause
    return value


def head(major: int, argument: int) -> bytes:
    """The initial bytes of an item of `major` type (0..7) with its shortest `argument` (RFC 8949 section 3)."""
    if argument < 24:
        return _SHORT_HEADS[major << 5 | argument]
    if argument < 1 << 8:
        return _SHORT_HEADS[major << 5 | 24] + _SHORT_HEADS[argument]
    if argument < 1 << 16:
        return _SHORT_HEADS[major << 5 | 25] + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return _SHORT_HEADS[major << 5 | 26] + argument.to_bytes(4, "big")
    ensure(argument <= _INTEGER_MAX, "a CBOR argument fits 64 bits")
    return _SHORT_HEADS[major << 5 | 27] + argument.to_bytes(8, "big")


def integer(value: int) -> bytes:
    """The whole encoding of an integer."""
    return head(0, value) if value >= 0 else head(1, -1 - value)


def bytes_head(size_bytes: int) -> bytes:
    """What stands before a byte string of `size_bytes`."""
    return head(2, size_bytes)


def text_head(size_bytes: int) -> bytes:
    """What stands before a text string of `size_bytes` in UTF-8."""
    return head(3, size_bytes)


def array_head(count: int) -> bytes:
    """What stands before an array of `count` items."""
    return head(4, count)


def map_head(count: int) -> bytes:
    """What stands before a map of `count` pairs; the caller writes the pairs in the order of their encoded keys."""
    return head(5, count)


def byte_string(value: bytes) -> bytes:
    """The whole encoding of a byte string."""
    return head(2, len(value)) + value


def _encoded_key(key: object) -> bytes:
    if type(key) is str:
        encoded = key.encode("utf-8")
        return head(3, len(encoded)) + encoded
    if type(key) is int:
        return integer(key)
    raise Bug("cbor_forbidden_type", f"a map key is text or an integer, not {type(key).__name__}")


# Keys are few and repeat. Typed, because True equals 1 and would find its entry.
_cached_key = lru_cache(maxsize=1024, typed=True)(_encoded_key)


def _is_plain_and_ordered(value: object) -> bool:
    """True if a decoded container holds only types of the subset and its maps are in order."""
    items: Collection[object]
    if type(value) is dict:
        items = value.values()
        if not _has_ordered_keys(value):
            return False
    elif type(value) is list:
        items = value
    else:
        return False
    if _SCALARS.issuperset(map(type, items)):
        return True
    for item in items:  # noqa: SIM110 (a generator here costs a third of the whole decode)
        if type(item) not in _SCALARS and not _is_plain_and_ordered(item):
            return False
    return True


def _has_ordered_keys(mapping: dict[str, object]) -> bool:
    keys: tuple[object, ...] = tuple(mapping)
    if keys in _ordered_texts:
        return True
    if any(type(key) is not str and type(key) is not int for key in keys):
        return False
    if list(keys) != sorted(keys, key=_encoded_key):
        return False
    # Text only: True equals 1 and would be found in its place.
    texts = tuple([key for key in keys if isinstance(key, str)])
    joined = "".join(texts)
    if (
        len(texts) == len(keys)
        and len(joined) <= _REMEMBERED_KEYS_SIZE_MAX
        and sum(map(str.isdigit, joined)) <= _REMEMBERED_DIGITS_MAX
    ):
        if len(_ordered_texts) >= _REMEMBERED_MAX:
            _ordered_texts.clear()
        _ordered_texts.add(texts)
    return True


def _refuse_tag(*_: object) -> NoReturn:
    raise _TagSeen


# Every tag that cbor2 6 interprets by itself; others reach `tag_hook`. tests/unit/crypto/test_cbor.py tries them all.
_REFUSED_TAGS: Final = dict.fromkeys(
    (*range(6), 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag
)


def _explain(data: bytes, depth_max: int, cause: Exception | None) -> NoReturn:
    """Raise the refusal that names what is wrong with `data`; called only for bytes already refused."""
    try:
        end = _scan(data, 0, depth_max)
    except IndexError as short:
        raise Rejected("cbor_malformed", f"the bytes end inside an item, {len(data)} seen") from short
    if end < len(data):
        raise Rejected("cbor_trailing_bytes", f"expected {end} bytes, saw {len(data)}") from cause
    raise Bug("cbor_disagreement", "two readers of the same CBOR disagree") from cause


def _scan(data: bytes, at: int, depth_left: int) -> int:
    """Read one item from offset `at` and return where it ends; raises for the first fault, IndexError at the end."""
    major, start = data[at] >> 5, at
    argument, at = _argument(data, at)
    if major in (0, 1):
        return at
    if major in (2, 3):
        if at + argument > len(data):
            raise IndexError
        if major == 3:
            try:
                data[at : at + argument].decode("utf-8")
            except UnicodeDecodeError as cause:
                raise Rejected("cbor_malformed", f"text at offset {start} is not UTF-8") from cause
        return at + argument
    if major == 6:
        raise Rejected("cbor_forbidden_type", f"tag {argument} at offset {start}")
    if major == 7:
        if argument not in (20, 21, 22) or at != start + 1:
            raise Rejected("cbor_forbidden_type", f"float, undefined or simple value at offset {start}")
        return at
    if depth_left == 0:
        raise Rejected("cbor_too_deep", f"the container at offset {start} nests deeper than allowed")
    return _scan_map(data, at, argument, depth_left) if major == 5 else _scan_array(data, at, argument, depth_left)


def _argument(data: bytes, at: int) -> tuple[int, int]:
    """The argument of the head at offset `at`, and where the head ends."""
    argument, start, is_special = data[at] & 31, at, data[at] >> 5 == 7
    at += 1
    if argument < 24:
        return argument, at
    if argument == 31:
        raise Rejected("cbor_not_canonical", f"indefinite length or stray break at offset {start}")
    if argument > 27:
        raise Rejected("cbor_malformed", f"reserved head 0x{data[start]:02x} at offset {start}")
    size_bytes = 1 << argument - 24
    if at + size_bytes > len(data):
        raise IndexError
    argument = int.from_bytes(data[at : at + size_bytes], "big")
    if argument < _SMALLEST_ARGUMENT[size_bytes] and not is_special:
        raise Rejected("cbor_not_canonical", f"the head at offset {start} is longer than needed")
    return argument, at + size_bytes


def _scan_array(data: bytes, at: int, count: int, depth_left: int) -> int:
    for _ in range(count):  # a huge count ends with the bytes: each item takes at least one
        at = _scan(data, at, depth_left - 1)
    return at


def _scan_map(data: bytes, at: int, count: int, depth_left: int) -> int:
    seen: set[bytes] = set()
    previous = b""
    disorder_at: int | None = None
    for _ in range(count):
        start = at
        if data[at] >> 5 not in (0, 1, 3):
            _scan(data, at, depth_left - 1)
            raise Rejected("cbor_forbidden_type", f"the map key at offset {start} is neither text nor an integer")
        at = _scan(data, at, depth_left - 1)
        key = data[start:at]
        if key in seen:
            raise Rejected("cbor_duplicate_key", f"the map key at offset {start} was seen before")
        seen.add(key)
        # A duplicate further on is the graver fault and is named first.
        if key < previous and disorder_at is None:
            disorder_at = start
        previous = key
        at = _scan(data, at, depth_left - 1)
    if disorder_at is not None:
        raise Rejected("cbor_not_canonical", f"the map key at offset {disorder_at} is out of order")
    return at
