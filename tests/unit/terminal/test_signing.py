"""What a till signs is what a box reads, in both encodings."""

from __future__ import annotations

import base64

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.crypto.signing_key import TerminalKey
from appliance.identity import signed
from appliance.model.errors import OutcomeUnknown
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import Claims, Seen
from provisioning.terminal.signing import Encoding, read_answer, sign

CLAIMS = Claims(
    v=1,
    verb="status",
    audience="owner.test/serial/1",
    terminal="till-1",
    key="01900000-0000-7000-8000-000000000001",
    signed_at_ms=1_790_000_000_000,
    body={"of": "01900000-0000-7000-8000-000000000002"},
    seen=Seen(size=7, root="ab" * 32),
)
ANSWER = PaymentAnswer(
    key=CLAIMS.key,
    verb="payment",
    state="approved",
    seq=9,
    currency="EUR",
    total_minor=1250,
    now_ms=1_790_000_000_001,
    receipt=b"\x00\xff",
)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Encoding.COSE, signed.Encoding.COSE), (Encoding.JWS, signed.Encoding.JOSE)]
)
def test_box_reads_the_same_claims_from_both_encodings(ours: Encoding, theirs: signed.Encoding) -> None:
    key = TerminalKey.generate()
    request = signed.decode_signed(sign(key, CLAIMS, ours), theirs, size_max=65_536)
    assert request.claims == CLAIMS
    assert request.key_id == key.key_id
    assert request.is_signed_by(key.public_key)


def test_two_signatures_of_one_request_differ_only_in_the_signature() -> None:
    key = TerminalKey.generate()
    first, second = sign(key, CLAIMS, Encoding.JWS), sign(key, CLAIMS, Encoding.JWS)
    assert first != second
    assert first.rpartition(b".")[0] == second.rpartition(b".")[0]


def test_receipt_survives_both_encodings() -> None:
    as_cbor = cbor.encode(msgspec.to_builtins(ANSWER, builtin_types=(bytes,)))
    assert read_answer("application/cbor", as_cbor, PaymentAnswer) == ANSWER
    as_json = msgspec.json.encode(ANSWER)
    assert base64.b64encode(b"\x00\xff") in as_json
    assert read_answer("application/json", as_json, PaymentAnswer) == ANSWER


def test_member_of_a_later_release_is_passed_over() -> None:
    later = {**msgspec.to_builtins(ANSWER), "loyalty_points": 12}
    assert read_answer("application/json", msgspec.json.encode(later), PaymentAnswer) == ANSWER


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", msgspec.json.encode(ANSWER)[:-9]),
        ("application/json", b"[]"),
        ("application/json", b'{"key":"x"}'),
        ("application/json", b"\xff"),
        ("application/cbor", b"\xa1"),
        ("text/html", b"<html>bad gateway</html>"),
    ],
)
def test_unreadable_answer_is_unknown_never_a_refusal(media_type: str, body: bytes) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        read_answer(media_type, body, PaymentAnswer)
    assert caught.value.code == "answer_unreadable"
