"""dag-cbor: one encoding a value, links as tag 42, everything else refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.evidence import dag_cbor
from appliance.evidence.cid import raw_cid
from appliance.evidence.dag_cbor import Link
from appliance.model.errors import Bug, Rejected

LINK = Link(raw_cid(b"block"))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40)
    | st.just(LINK)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=30), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_encoded_comes_back(value: dag_cbor.Value) -> None:
    try:
        block = dag_cbor.encode(value)
        assert dag_cbor.decode(block, size_max=1 << 16) == value
    except Rejected as refusal:
        assert "deep" in refusal.detail  # noqa: PT017 - only too much depth is refused here


@given(st.binary(max_size=64))
def test_whatever_is_accepted_is_the_one_encoding(block: bytes) -> None:
    try:
        value = dag_cbor.decode(block, size_max=64)
    except Rejected:
        return
    assert dag_cbor.encode(value) == block


def test_a_link_is_tag_42_with_the_identity_prefix() -> None:
    assert dag_cbor.encode({"a": LINK}) == b"\xa1\x61a\xd8\x2a\x58\x25\x00" + LINK.cid
    # Shorter keys first, as dag-cbor orders them.
    assert dag_cbor.encode({"bb": 1, "c": 2, "a" * 24: 3})[1:3] == b"\x61c"


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x18\x01",
        b"\xa2\x61b\x01\x61a\x02",
        b"\xa2\x61a\x01\x61a\x02",
        b"\xa1\x01\x02",
        b"\x01\x01",
        b"\x9f\xff",
        b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
        b"\xf7",
        b"\xd8\x2b\x58\x25\x00" + LINK.cid,
        b"\xd8\x2a\x58\x24" + LINK.cid,
        b"\xd8\x2a\x58\x25\x00" + LINK.cid[:-1],
        b"\x61\xff",
        b"\x42\x01",
        b"\x81" * 9 + b"\x01",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        bytes(65),
    ],
)
def test_anything_else_is_refused(block: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        dag_cbor.decode(block, size_max=64)
    assert refusal.value.code in ("dag_cbor_malformed", "cid_malformed")


@pytest.mark.parametrize("value", [{1: 2}, 1.5, {"a": {2: 3}}])
def test_what_dag_cbor_has_not_is_our_own_mistake(value: object) -> None:
    with pytest.raises(Bug):
        dag_cbor.encode(value)
