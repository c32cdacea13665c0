"""Owns the promise that bytes and bodies of any shape are refused in good order."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from provisioning.terminal.signing import Encoding
from tests.integration.till import CASH, Till, new_key

FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATHS = st.sampled_from(["payment", "status", "refund", "batch", "pair"])


@FUZZ
@given(path=PATHS, raw=st.binary(max_size=300), encoding=st.sampled_from(list(Encoding)))
def test_random_bytes_are_refused(till: Till, unchanged: None, path: str, raw: bytes, encoding: Encoding) -> None:
    reply = till.post(f"/v1/{path}", raw, encoding)
    assert 400 <= reply.status < 500, reply


@FUZZ
@given(path=PATHS, raw=st.binary(max_size=120), encoding=st.sampled_from(list(Encoding)))
def test_signed_random_bytes_are_refused(
    till: Till, unchanged: None, path: str, raw: bytes, encoding: Encoding
) -> None:
    reply = till.post(f"/v1/{path}", till.sign(raw, encoding), encoding)
    assert 400 <= reply.status < 500, reply


@FUZZ
@given(data=st.data(), encoding=st.sampled_from(list(Encoding)))
def test_mutated_request_is_refused(till: Till, unchanged: None, data: st.DataObject, encoding: Encoding) -> None:
    honest = till.signed(till.claims("payment", CASH), encoding)
    raw = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
    assume(raw != honest)
    reply = till.post("/v1/payment", bytes(raw), encoding)
    assert 400 <= reply.status < 500, reply


WORDS = st.sampled_from(["currency", "tenders", "lines", "of", "items", "key", "payment", "kind", "x", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=40) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(path=PATHS, body=st.dictionaries(WORDS, VALUES, max_size=4), encoding=st.sampled_from(list(Encoding)))
def test_signed_body_of_any_shape_is_refused(
    till: Till, unchanged: None, path: str, body: dict[str, Any], encoding: Encoding
) -> None:
    reply = till.ask(path, body, encoding=encoding)
    assert 400 <= reply.status < 500, reply


@FUZZ
@given(
    change=st.dictionaries(
        st.sampled_from(["v", "verb", "audience", "terminal", "key", "signed_at_ms", "body", "seen"]),
        VALUES,
        min_size=1,
        max_size=2,
    ),
    encoding=st.sampled_from(list(Encoding)),
)
def test_claims_of_any_shape_are_refused(
    till: Till, unchanged: None, change: dict[str, Any], encoding: Encoding
) -> None:
    claims = till.claims("status", {"of": new_key()}) | change
    reply = till.post("/v1/status", till.signed(claims, encoding), encoding)
    assert 400 <= reply.status < 500, reply
