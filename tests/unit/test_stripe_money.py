"""Amounts at Stripe's border: docs.stripe.com/currencies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.adapters.stripe_money import AMOUNT_MAX, amount_for_stripe
from appliance.model.money import EXPONENTS, Money
from appliance.ports.provider import Refused


@pytest.mark.parametrize(
    ("money", "amount"),
    [
        (Money(1250, "EUR"), 1250),
        (Money(500, "JPY"), 500),
        (Money(5, "ISK"), 500),
        (Money(500, "MGA"), 5),
        (Money(5120, "KWD"), 5120),
        (Money(101, "HUF"), 101),
        (Money(101, "TWD"), 101),
        (Money(AMOUNT_MAX, "USD"), AMOUNT_MAX),
    ],
)
def test_amounts_are_counted_as_stripe_counts_them(money: Money, amount: int) -> None:
    assert amount_for_stripe(money) == amount


@pytest.mark.parametrize(
    ("money", "code"),
    [
        (Money(5124, "KWD"), "amount_not_representable"),
        (Money(501, "MGA"), "amount_not_representable"),
        (Money(5, "UGX"), "currency_unsupported"),
        (Money(5000, "IQD"), "currency_unsupported"),
        (Money(AMOUNT_MAX + 1, "USD"), "amount_too_large"),
        (Money(AMOUNT_MAX, "ISK"), "amount_too_large"),
    ],
)
def test_what_stripe_cannot_carry_exactly_is_refused_before_it_is_sent(money: Money, code: str) -> None:
    answer = amount_for_stripe(money)
    assert isinstance(answer, Refused)
    assert answer.code == code


@given(st.sampled_from(sorted(EXPONENTS)), st.integers(1, 10**9), st.integers(1, 10**9))
def test_two_different_amounts_are_never_sent_as_one(currency: str, one: int, other: int) -> None:
    first, second = amount_for_stripe(Money(one, currency)), amount_for_stripe(Money(other, currency))
    if isinstance(first, int) and isinstance(second, int):
        assert (first < second) == (one < other)
        assert first > 0
