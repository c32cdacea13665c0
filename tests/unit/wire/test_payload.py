"""Owns the promise that one sale has one payload, however its sender spells the defaults."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.identity.authenticate import payload_hash
from appliance.wire.requests import BODIES, LineBody, PaymentBody, RefundLine, TaxBody, TenderBody, Wire

SHAPES: list[type[Wire]] = [*BODIES.values(), LineBody, RefundLine, TaxBody, TenderBody]
BRIEF: dict[str, Any] = {
    "currency": "EUR",
    "lines": [{"sku": "COFFEE-250", "unit_price_minor": 495}],
    "total_minor": 495,
    "tenders": [{"kind": "cash", "amount_minor": 495}],
}
SPELT_OUT = BRIEF | {
    "lines": [
        {
            "sku": "COFFEE-250",
            "unit_price_minor": 495,
            "quantity_thousandths": 1000,
            "discount_minor": 0,
            "tax_code": "unstated",
            "tax_rate_basis_points": 0,
        }
    ],
    "prices": "tax_included",
    "capture": "at_once",
    "retry_of": [],
    "taxes": [],
    "tip_minor": 0,
    "rounding_minor": 0,
    "change_minor": 0,
    "remaining_minor": 0,
    "partial": "refused",
    "reference": "",
}

SAMPLES: dict[str, dict[str, Any]] = {
    "PaymentBody": SPELT_OUT,
    "LineBody": SPELT_OUT["lines"][0],
    "RefundBody": {"of": "0" * 36, "lines": [], "reason": ""},
    "DrawerBody": {"act": "no_sale", "amount_minor": 0, "reason": ""},
    "VoucherBody": {"act": "show", "amount_minor": 0, "reason": ""},
    "TokenBody": {"act": "keep", "purposes": [], "reason": ""},
    "EscrowBody": {"size": 0},
    "ReportBody": {"kind": "x", "scope": "drawer"},
}


def from_json(value: dict[str, Any]) -> PaymentBody:
    return msgspec.convert(json.loads(json.dumps(value)), PaymentBody)


def from_cbor(value: dict[str, Any]) -> PaymentBody:
    return msgspec.convert(cbor.decode(cbor.encode(value), size_max=4096), PaymentBody)


def test_written_out_defaults_change_no_payload() -> None:
    bodies = [decode(value) for decode in (from_json, from_cbor) for value in (BRIEF, SPELT_OUT)]
    assert len({payload_hash("payment", "till-1", body) for body in bodies}) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_default_that_came_over_the_wire_is_left_out(shape: type[Wire]) -> None:
    sample = SAMPLES.get(shape.__name__, {})
    optional = {
        field.name for field in msgspec.structs.fields(shape) if not field.required and field.default is not None
    }
    assert optional <= sample.keys() | {"reason", "after"}, "a new default is spelt out in this test"
    if sample:
        decoded = msgspec.convert(json.loads(json.dumps(sample)), shape)
        filled = {name for name in sample if sample[name] and isinstance(sample[name], list)}
        assert not optional & msgspec.to_builtins(decoded).keys() - filled
