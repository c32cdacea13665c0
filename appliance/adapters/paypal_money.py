"""Amounts as PayPal writes them: decimal text with the currency's own number of digits; must never touch a float.

Source: developer.paypal.com/api/rest/reference/currency-codes (which currencies, and which take no decimals).
"""

from __future__ import annotations

import re
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.money import Money, exponent
from appliance.ports.provider import Refused

DIGITS: Final = {
    **dict.fromkeys(("AUD", "BRL", "CAD", "CNY", "CZK", "DKK", "EUR", "HKD", "ILS", "MYR", "MXN", "NZD"), 2),
    **dict.fromkeys(("NOK", "PHP", "PLN", "GBP", "SGD", "SEK", "CHF", "THB", "USD"), 2),
    **dict.fromkeys(("HUF", "JPY", "TWD"), 0),
}
"""Every currency that PayPal takes, with its digits there; ISO 4217 gives HUF and TWD two."""
_SIGNED: Final = re.compile(r"\A(-?)([0-9]{0,12})(?:\.([0-9]{1,6}))?\Z")


def value_for_paypal(money: Money) -> str | Refused:
    """`money` as PayPal writes it, exactly, or why it cannot."""
    digits = DIGITS.get(money.currency)
    if digits is None:
        return Refused(code="currency_unsupported", detail=f"PayPal does not take {money.currency}")
    whole, rest = divmod(money.amount_minor, int(10 ** exponent(money.currency)))
    if digits == 0 and rest:
        return Refused(code="amount_not_representable", detail=f"PayPal takes {money.currency} without decimals")
    return f"{whole}.{rest:0{digits}d}" if digits else str(whole)


def minor_from_paypal(value: str, currency: str) -> int:
    """A signed amount of PayPal's reports in ISO minor units.

    Raises:
        Rejected: `amount_malformed`: no amount, or finer than the currency's minor unit.
            `currency_unknown`: as `exponent`.
    """
    parts, digits = _SIGNED.match(value), exponent(currency)
    fraction = "" if parts is None else (parts[3] or "").rstrip("0")
    if parts is None or not (parts[2] or parts[3]) or len(fraction) > digits:
        raise Rejected("amount_malformed", f"expected an amount of at most {digits} decimals")
    amount = int((parts[2] or "0") + fraction.ljust(digits, "0"))
    return -amount if parts[1] else amount
