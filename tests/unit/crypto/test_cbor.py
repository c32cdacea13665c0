"""Strict CBOR: one value has one encoding; everything else is refused by name."""

from __future__ import annotations

import pytest

from appliance.crypto import cbor
from appliance.model.errors import Bug, Corrupt, Rejected

# RFC 8949 appendix A, as far as it lies in the subset, and docs/formats/cbor.md.
EXAMPLES = [
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-1, "20"),
    (-1000, "3903e7"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("ü", "62c3bc"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    ({}, "a0"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ({"total": 1299, "currency": "EUR"}, "a265746f74616c1905136863757272656e637963455552"),
]

REFUSED = [
    ("", "cbor_malformed"),
    ("18", "cbor_malformed"),
    ("19ff", "cbor_malformed"),
    ("4261", "cbor_malformed"),
    ("82", "cbor_malformed"),
    ("8201", "cbor_malformed"),
    ("a1", "cbor_malformed"),
    ("a16161", "cbor_malformed"),
    ("5b7fffffffffffffff", "cbor_malformed"),
    ("9bffffffffffffffff", "cbor_malformed"),
    ("1c", "cbor_malformed"),
    ("61ff", "cbor_malformed"),
    ("63eda080", "cbor_malformed"),
    ("1817", "cbor_not_canonical"),
    ("190018", "cbor_not_canonical"),
    ("1b0000000000000001", "cbor_not_canonical"),
    ("3800", "cbor_not_canonical"),
    ("580161", "cbor_not_canonical"),
    ("780161", "cbor_not_canonical"),
    ("980101", "cbor_not_canonical"),
    ("b8010101", "cbor_not_canonical"),
    ("5f4100ff", "cbor_not_canonical"),
    ("7f6161ff", "cbor_not_canonical"),
    ("9fff", "cbor_not_canonical"),
    ("bfff", "cbor_not_canonical"),
    ("ff", "cbor_not_canonical"),
    ("a2616201616101", "cbor_not_canonical"),
    ("a262616101616201", "cbor_not_canonical"),
    ("a22001181800", "cbor_not_canonical"),  # the length-first order of RFC 7049
    ("a2616101616102", "cbor_duplicate_key"),
    ("a201010102", "cbor_duplicate_key"),
    ("a3616201616101616102", "cbor_duplicate_key"),
    ("0000", "cbor_trailing_bytes"),
    ("a000", "cbor_trailing_bytes"),
    ("f5f5", "cbor_trailing_bytes"),
    ("f7", "cbor_forbidden_type"),
    ("f0", "cbor_forbidden_type"),
    ("f820", "cbor_forbidden_type"),
    ("f814", "cbor_forbidden_type"),
    ("f93c00", "cbor_forbidden_type"),
    ("fa3f800000", "cbor_forbidden_type"),
    ("fb3ff0000000000000", "cbor_forbidden_type"),
    ("fb7ff8000000000000", "cbor_forbidden_type"),
    ("81f97e00", "cbor_forbidden_type"),
    ("c11a514b67b0", "cbor_forbidden_type"),
    ("c249010000000000000000", "cbor_forbidden_type"),
    ("d8234161", "cbor_forbidden_type"),
    ("d28440a04040", "cbor_forbidden_type"),
    ("a1f501", "cbor_forbidden_type"),
    ("a1f601", "cbor_forbidden_type"),
    ("a1416101", "cbor_forbidden_type"),
    ("a1810102", "cbor_forbidden_type"),
    ("a1a0a0", "cbor_forbidden_type"),
    ("a20101f501", "cbor_forbidden_type"),
    ("81" * 17 + "01", "cbor_too_deep"),
    ("a101" * 17 + "01", "cbor_too_deep"),
]


@pytest.mark.parametrize(("value", "encoded"), EXAMPLES, ids=[encoded for _, encoded in EXAMPLES])
def test_a_value_has_exactly_the_published_encoding(value: object, encoded: str) -> None:
    assert cbor.encode(value).hex() == encoded
    assert cbor.decode(bytes.fromhex(encoded), size_max=100) == value


@pytest.mark.parametrize(("encoded", "code"), REFUSED, ids=[encoded[:40] or "empty" for encoded, _ in REFUSED])
def test_other_bytes_are_refused_with_their_code(encoded: str, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        cbor.decode(bytes.fromhex(encoded), size_max=100)
    assert refusal.value.code == code


def test_size_is_bounded_before_anything_is_read() -> None:
    with pytest.raises(Rejected) as refusal:
        cbor.decode(b"\xff" * 101, size_max=100)
    assert refusal.value.code == "cbor_too_large"


def test_depth_counts_nested_containers() -> None:
    assert cbor.decode(bytes.fromhex("818101"), size_max=9, depth_max=2) == [[1]]
    with pytest.raises(Rejected) as refusal:
        cbor.decode(bytes.fromhex("818101"), size_max=9, depth_max=1)
    assert refusal.value.code == "cbor_too_deep"


def test_every_tag_is_refused_before_it_builds_anything() -> None:
    numbers = (*range(300), 1004, 1040, 43000, 43001, 55799, 55800, 65535, 65536, 1 << 32)
    for number in numbers:
        for inner in (b"\x00", b"\x41a", b"\x61a", b"\x80", b"\xa0"):
            with pytest.raises(Rejected) as refusal:
                cbor.decode(cbor.head(6, number) + inner, size_max=100)
            assert refusal.value.code == "cbor_forbidden_type", number
            assert type(refusal.value.__cause__).__name__ in ("NoneType", "_TagSeen", "CBORDecodeError"), number


def test_map_order_is_bytewise_over_encoded_keys() -> None:
    assert cbor.encode({-1: 0, 24: 1, "a": 2, 23: 3}).hex() == "a417031818012000616102"
    assert cbor.decode(cbor.encode({-1: 0, 24: 1}), size_max=100) == {24: 1, -1: 0}
    assert cbor.encode({"é": 1, "zz": 2, "zzz": 3, "b": 4}).hex() == "a4616204627a7a0262c3a901637a7a7a03"


def test_the_key_cache_does_not_take_true_for_one() -> None:
    assert cbor.encode({1: 0}).hex() == "a10100"
    with pytest.raises(Bug):
        cbor.encode({True: 0})
    assert cbor.decode(bytes.fromhex("a10100"), size_max=9) == {1: 0}
    with pytest.raises(Rejected):
        cbor.decode(bytes.fromhex("a1f500"), size_max=9)


@pytest.mark.parametrize("value", [1.5, {1, 2}, object(), 1 << 64, -(1 << 64) - 1, {b"a": 1}, [bytearray(b"a")]])
def test_encoding_a_value_outside_the_subset_is_a_bug(value: object) -> None:
    with pytest.raises(Bug):
        cbor.encode(value)


def test_heads_are_what_the_encoder_writes() -> None:
    for size in (0, 23, 24, 255, 256, 65535, 65536):
        assert cbor.bytes_head(size) + b"x" * size == cbor.encode(b"x" * size) == cbor.byte_string(b"x" * size)
        assert cbor.text_head(size) + b"x" * size == cbor.encode("x" * size)
        assert cbor.array_head(size) + b"\x00" * size == cbor.encode([0] * size)
        assert cbor.integer(size) == cbor.encode(size)
        assert cbor.integer(-size) == cbor.encode(-size)
    assert cbor.map_head(2) == b"\xa2"


@pytest.mark.parametrize("damaged", [b"", b"\xa1\x61", b"\xc0\x60", b"\xff"], ids=bytes.hex)
def test_our_own_bytes_when_damaged_are_corrupt(damaged: bytes) -> None:
    with pytest.raises(Corrupt, match="cbor_unreadable"):
        cbor.decode_ours(damaged)
