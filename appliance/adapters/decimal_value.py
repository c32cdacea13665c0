"""Amounts as decimal text, as providers write them that count no minor units; must never touch a float."""

from __future__ import annotations

import re
from typing import Final

from appliance.model.money import Money, exponent

_VALUE: Final = re.compile(r"\A(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,3}))?\Z")


def is_value_of(value: str, money: Money) -> bool:
    """Whether `value` is exactly `money`, however many zeros it has."""
    parts = _VALUE.match(value)
    digits = exponent(money.currency)
    if parts is None or len((parts[2] or "").rstrip("0")) > digits:
        return False
    return int(parts[1] + (parts[2] or "").ljust(digits, "0")[:digits]) == money.amount_minor
