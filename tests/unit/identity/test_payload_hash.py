"""Owns one promise: what a retry repeats is told by its meaning, not by how the sender wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.crypto.signing_key import TerminalKey
from appliance.identity.authenticate import authenticated, payload_hash
from appliance.identity.signed import Encoding, decode_signed
from appliance.model.ids import new_request_key, terminal_id
from appliance.wire.requests import Claims, LineBody, PaymentBody, TenderBody
from provisioning.terminal.signing import sign_cose, sign_jws

NOW_MS = 1_800_000_000_000
KEY = new_request_key(NOW_MS, bytes(10))
TILL = TerminalKey.generate()
BODY = PaymentBody(
    currency="EUR",
    lines=(LineBody(sku="4006381333931", unit_price_minor=250),),
    tenders=(TenderBody(kind="cash", amount_minor=250),),
    total_minor=250,
    reference="receipt-7",
)
SHORT: dict[str, Any] = {
    "currency": "EUR",
    "lines": [{"sku": "4006381333931", "unit_price_minor": 250}],
    "tenders": [{"kind": "cash", "amount_minor": 250}],
    "total_minor": 250,
    "reference": "receipt-7",
}
WITH_DEFAULTS = {**SHORT, "tip_minor": 0, "taxes": [], "prices": "tax_included"}


def claims(body: dict[str, Any]) -> Claims:
    return Claims(v=1, verb="payment", audience="shop", terminal="till-1", key=str(KEY), signed_at_ms=NOW_MS, body=body)


@pytest.mark.parametrize("body", [SHORT, WITH_DEFAULTS], ids=["short", "with defaults"])
@pytest.mark.parametrize("encoding", [Encoding.COSE, Encoding.JOSE])
def test_payload_hash_is_one_for_every_way_of_writing_a_sale(body: dict[str, Any], encoding: Encoding) -> None:
    raw = sign_cose(TILL, claims(body)) if encoding is Encoding.COSE else sign_jws(TILL, claims(body))
    signed = decode_signed(raw, encoding, size_max=10_000)
    request = authenticated(signed, PaymentBody, key=KEY, terminal=terminal_id("till-1"), now_ms=NOW_MS)
    assert request.identity.payload_hash == payload_hash("payment", "till-1", BODY)
