"""An answer to a capture or a cancellation is believed only of the payment that was asked about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.adapters.provider_http import Reply
from appliance.adapters.stripe_held import cancel_answer, capture_answer
from appliance.adapters.stripe_reply import Expected
from appliance.model.ids import ProviderReference
from appliance.model.money import Money
from appliance.ports.provider import Confirmed, Unknown

OURS = ProviderReference("pi_1")
HELD = Money(1000, "EUR")
NAMES = {"tillstone_log": "shop.example/box-1/1", "tillstone_payment": "01890000-0000-7000-8000-000000000001"}
EXPECTED = Expected(money=HELD, amount=1000, metadata=NAMES, is_live=False)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": "pi_2"}, "payment_differs"),
    ({"metadata": NAMES | {"tillstone_payment": "01890000-0000-7000-8000-000000000002"}}, "reference_differs"),
    ({"metadata": NAMES | {"tillstone_log": "shop.example/box-2/1"}}, "reference_differs"),
    ({"livemode": True}, "account_mode_differs"),
    ({"currency": "usd"}, "currency_differs"),
    ({"amount": 1001}, "amount_differs"),
]


def payment(status: str, **other: Any) -> dict[str, Any]:
    received = 1000 if status == "succeeded" else 0
    names = {"id": OURS, "currency": "eur", "livemode": False, "created": 1_790_000_000, "metadata": NAMES}
    return {**names, "amount": 1000, "amount_received": received, "status": status, **other}


def replies(status: str, **other: Any) -> list[Reply]:
    """The payment as an answer, and inside the refusal of who did it before."""
    body = payment(status, **other)
    error = {"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "payment_intent": body}
    return [Reply(status=200, body=json.dumps(body)), Reply(status=400, body=json.dumps({"error": error}))]


def test_our_own_payment_is_believed() -> None:
    for captured, cancelled in zip(replies("succeeded"), replies("canceled"), strict=True):
        assert isinstance(capture_answer(captured, EXPECTED, HELD, OURS), Confirmed)
        assert isinstance(cancel_answer(cancelled, EXPECTED, OURS), Confirmed)


@pytest.mark.parametrize(("other", "why"), WRONG)
def test_any_other_payment_is_unknown_and_not_named(other: dict[str, Any], why: str) -> None:
    for captured, cancelled in zip(replies("succeeded", **other), replies("canceled", **other), strict=True):
        assert capture_answer(captured, EXPECTED, HELD, OURS) == Unknown(reason=why)
        assert cancel_answer(cancelled, EXPECTED, OURS) == Unknown(reason=why)
