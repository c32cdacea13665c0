"""Amounts as Stripe counts them; must never round, guess or touch a float.

Stripe counts most currencies as ISO 4217 does. The exceptions are below; an amount that Stripe cannot carry exactly is
refused before anything is sent.

Source: docs.stripe.com/currencies, "Zero-decimal currencies", "Three-decimal currencies", "Special cases".
"""

from __future__ import annotations

from typing import Final

from appliance.model.errors import Rejected
from appliance.model.money import Money, exponent
from appliance.ports.provider import Refused

STRIPE_EXPONENTS: Final = {
    "ISK": 2,  # no fractions exist, yet the API still counts hundredths: 5 ISK is 500
    "MGA": 0,  # ISO counts fifths as two digits, Stripe counts whole ariary
}
"""Where Stripe's exponent differs from ISO's."""

UNSUPPORTED: Final = frozenset(
    {
        "UGX",  # the page lists it both as zero-decimal and as counted in hundredths: a factor of 100 is not guessed
        "IQD",  # three digits in ISO, not among Stripe's three-decimal currencies
        "LYD",
    }
)
AMOUNT_MAX: Final = 99_999_999
"""Largest `amount` of a payment: eight digits (docs.stripe.com/api/payment_intents/create)."""


def amount_for_stripe(money: Money) -> int | Refused:
    """`money` in Stripe's smallest unit, exactly, or why Stripe cannot carry it."""
    if money.currency in UNSUPPORTED:
        return Refused(code="currency_unsupported", detail=f"cards are not taken in {money.currency}")
    digits = exponent(money.currency)
    shift = STRIPE_EXPONENTS.get(money.currency, digits) - digits
    up, down = int(10 ** max(shift, 0)), int(10 ** max(-shift, 0))
    amount, rest = divmod(money.amount_minor * up, down)
    if rest or (digits == 3 and amount % 10):
        return Refused(
            code="amount_not_representable",
            detail=f"cards carry {money.currency} in coarser steps than this amount",
        )
    if amount > AMOUNT_MAX:
        return Refused(code="amount_too_large", detail=f"one card payment is at most {AMOUNT_MAX} of its smallest unit")
    return amount


def amount_from_stripe(amount: int, currency: str) -> int:
    """Stripe's `amount`, of either sign, in minor units of ISO 4217, exactly.

    Raises:
        Rejected: `currency_unknown`; `amount_not_representable`: it is finer than the currency has coins.
    """
    digits = exponent(currency)
    shift = STRIPE_EXPONENTS.get(currency, digits) - digits
    minor, rest = divmod(amount * int(10 ** max(-shift, 0)), int(10 ** max(shift, 0)))
    if rest:
        raise Rejected("amount_not_representable", f"{currency} has no coin for this amount")
    return minor
