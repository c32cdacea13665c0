"""Laws of the strict codec, for values and for arbitrary bytes."""

from __future__ import annotations

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto import cbor
from appliance.model.errors import Rejected

scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(1 << 64), max_value=(1 << 64) - 1)
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.integers(-1000, 1000)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=8), max_leaves=20
)
SIZE_MAX = 100_000


@given(values)
def test_a_value_survives_the_round_trip(value: object) -> None:
    encoded = cbor.encode(value)
    assert cbor.decode(encoded, size_max=SIZE_MAX) == value
    assert cbor2.loads(encoded) == value
    assert cbor.decode_ours(encoded) == value


@given(values)
def test_no_other_writing_order_gives_other_bytes(value: object) -> None:
    def reversed_maps(item: object) -> object:
        if isinstance(item, dict):
            return {key: reversed_maps(item[key]) for key in reversed(item)}
        return [reversed_maps(each) for each in item] if isinstance(item, list) else item

    assert cbor.encode(reversed_maps(value)) == cbor.encode(value)


def refusal_code(data: bytes) -> str | None:
    """The code of the refusal; None when `data` is accepted, and then it is the one encoding of its value."""
    try:
        value = cbor.decode(data, size_max=SIZE_MAX)
    except Rejected as refusal:
        return refusal.code
    assert cbor.encode(value) == data
    return None


@given(st.binary(max_size=60))
def test_bytes_are_the_one_encoding_of_their_value_or_refused(data: bytes) -> None:
    code = refusal_code(data)
    assert code is None or code.startswith("cbor_")


@given(values, st.data())
def test_a_changed_byte_gives_another_value_or_a_refusal(value: object, data: st.DataObject) -> None:
    encoded = bytearray(cbor.encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    code = refusal_code(bytes(encoded))
    assert code is None or code.startswith("cbor_")


@given(values, st.binary(min_size=1, max_size=5))
def test_nothing_may_follow_a_value(value: object, tail: bytes) -> None:
    assert refusal_code(cbor.encode(value) + tail) == "cbor_trailing_bytes"
