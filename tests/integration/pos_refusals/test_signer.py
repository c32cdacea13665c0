"""Owns the refusals of requests that are well formed and not for us, or not from whom they say."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.crypto import cbor, cose, jws
from appliance.crypto.signing_key import TerminalKey
from appliance.model.limits import MINUTE_MS
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox
from tests.integration.pos_refusals.refused import BOTH, assert_refused
from tests.integration.till import CASH, Till, now_ms


@BOTH
def test_stranger_wrong_key_and_wrong_name_are_refused(
    box: RunningBox, till: Till, unchanged: None, encoding: Encoding
) -> None:
    stranger = Till(box, "till-1", TerminalKey.generate())
    assert_refused(stranger.ask("payment", CASH, encoding=encoding), 401, "terminal_unknown")
    assert_refused(till.ask("payment", CASH, encoding=encoding, terminal="till-2"), 401, "terminal_mismatch")
    claims = till.claims("payment", CASH)
    if encoding is Encoding.JWS:
        honest = till.signed(claims, encoding).split(b".")
        forged = b".".join([honest[0], honest[1], jws.to_base64url(stranger.key.sign(b"other"))])
    else:
        protected = cose.encode_protected({cose.ALG: till.key.algorithm, cose.KEY_ID: till.key.key_id})
        forged = cose.encode_sign1(protected, {}, cbor.encode(claims), stranger.key.sign(b"other"))
    assert_refused(till.post("/v1/payment", forged, encoding), 401, "signature_wrong")


def test_refusal_of_a_stranger_says_nothing_of_the_sale(box: RunningBox, unchanged: None) -> None:
    stranger = Till(box, "till-1", TerminalKey.generate())
    replies = [
        stranger.ask("payment", {"nonsense": 1}),
        stranger.ask("payment", CASH, audience="another-box"),
        stranger.ask("payment", CASH, signed_at_ms=1),
        stranger.ask("payment", CASH, seen={"size": 10**9, "root": "00" * 32}),
    ]
    assert {reply.code for reply in replies} == {"terminal_unknown"}


@BOTH
def test_wrong_audience_verb_and_clock_are_refused(till: Till, unchanged: None, encoding: Encoding) -> None:
    assert_refused(till.ask("payment", CASH, encoding=encoding, audience="other/BOX/1"), 403, "wrong_audience")
    assert_refused(till.ask("payment", CASH, encoding=encoding, verb="refund"), 400, "wrong_verb")
    for skew_ms in (-6 * MINUTE_MS, 6 * MINUTE_MS):
        reply = till.ask("payment", CASH, encoding=encoding, signed_at_ms=now_ms() + skew_ms)
        assert_refused(reply, 400, "clock_skew")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"v": 2}, "claims_invalid"),
        ({"v": None}, "claims_invalid"),
        ({"verb": "steal"}, "claims_invalid"),
        ({"signed_at_ms": -1}, "claims_invalid"),
        ({"signed_at_ms": 2**64 - 1}, "claims_invalid"),
        ({"signed_at_ms": "1"}, "claims_invalid"),
        ({"body": []}, "claims_invalid"),
        ({"surplus": 1}, "claims_invalid"),
        ({"seen": {"size": -1, "root": "00" * 32}}, "claims_invalid"),
        ({"seen": {"size": 1, "root": "00" * 31}}, "claims_invalid"),
        ({"seen": {"size": 1, "root": "00" * 32 + "\n"}}, "claims_invalid"),
        ({"key": "x" * 36}, "key_not_uuidv7"),
        ({"key": "00000000-0000-4000-8000-000000000000"}, "key_not_uuidv7"),
        ({"key": "x"}, "claims_invalid"),
        ({"audience": "x" * 65}, "claims_invalid"),
    ],
)
@BOTH
def test_claims_of_another_shape_are_refused(
    till: Till, unchanged: None, changed: dict[str, Any], code: str, encoding: Encoding
) -> None:
    assert_refused(till.ask("payment", CASH, encoding=encoding, **changed), 400, code)
