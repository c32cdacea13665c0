"""When an answer of Stripe is believed to be an approval for less: exactly when it was allowed, and says so itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.adapters.stripe_reply import Expected, Payment, payment_answer
from appliance.model.money import Money
from appliance.ports.provider import PartlyConfirmed, Unknown

EXPECTED = Expected(
    money=Money(1000, "EUR"), amount=1000, metadata={"tillstone_key": "k/0"}, is_live=False, may_be_partial=True
)


def payment(card: dict[str, Any] | None = None, **more: Any) -> Payment:
    details = {
        "amount_authorized": 700,
        "amount_requested": 1000,
        "partial_authorization": {"status": "partially_authorized"},
        **(card or {}),
    }
    facts = {
        "id": "pi_1",
        "amount": 700,
        "amount_received": 700,
        "currency": "eur",
        "status": "succeeded",
        "livemode": False,
        "created": 1,
        "metadata": {"tillstone_key": "k/0"},
        "latest_charge": {"id": "ch_1", "payment_method_details": {"card": details}},
        **more,
    }
    return msgspec.convert(facts, Payment)


def test_less_is_believed_when_the_charge_says_of_what_it_is_a_part() -> None:
    answer = payment_answer(payment(), EXPECTED)
    assert isinstance(answer, PartlyConfirmed)
    assert (answer.amount, answer.confirmed_ms) == (Money(700, "EUR"), 1000)


@pytest.mark.parametrize(
    "lie",
    [
        payment({"amount_requested": 900}),
        payment({"amount_authorized": 699}),
        payment({"partial_authorization": {"status": "fully_authorized"}}),
        payment({"partial_authorization": None}),
        payment(latest_charge="ch_1"),
        payment(latest_charge=None),
        payment(latest_charge={"id": "ch_1"}),
        payment(amount_received=600),
        payment(status="requires_capture", amount_received=0),
        payment({"amount_authorized": 1001}, amount=1001, amount_received=1001),
        payment({"amount_authorized": 0}, amount=0, amount_received=0),
    ],
)
def test_anything_else_is_looked_at_again(lie: Payment) -> None:
    answer = payment_answer(lie, EXPECTED)
    assert isinstance(answer, Unknown)
    assert answer.reason == "amount_differs"


def test_less_is_never_believed_where_it_was_not_allowed() -> None:
    asked = Expected(money=EXPECTED.money, amount=1000, metadata=EXPECTED.metadata, is_live=False)
    assert isinstance(payment_answer(payment(), asked), Unknown)


def test_another_payment_is_not_taken_for_a_part() -> None:
    answer = payment_answer(payment(metadata={"tillstone_key": "other"}), EXPECTED)
    assert answer == Unknown(reason="reference_differs")
