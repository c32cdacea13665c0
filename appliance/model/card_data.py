"""Finds what looks like a card number in free text, so that it is refused before it is stored or logged.

A run of 13 to 19 digits (spaces and hyphens between them ignored) that starts like an issuer's number and passes the
Luhn check. Article and order numbers of shops rarely do both; a false alarm costs a clear refusal.

Source: ISO/IEC 7812-1 (length, Luhn), annex of major industry identifiers; PCI DSS 3.4 on what must not be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from appliance.model.errors import Rejected

_CARD_DIGITS_MIN: Final = 13
_DIGIT_RUN: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
# Visa 4; Mastercard 51-55, 2221-2720; American Express, JCB, Diners 3; Discover, UnionPay 6; Maestro 50, 56-58.
_ISSUER: Final = re.compile(r"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[0-9]|6")

# Luhn (ISO/IEC 7812-1 annex B): from the right, every second digit counts as the digit sum of its double.
_VALUE: Final = bytes(max(0, character - 0x30) % 256 for character in range(256))
_DOUBLED: Final = bytes(2 * digit - 9 * (digit > 4) for digit in range(10)).ljust(256, b"\0")


def refuse_card_numbers(texts: Iterable[str]) -> None:
    """Raise Rejected `card_number_refused` if any text holds a likely card number; the text itself is not repeated."""
    # One search over all: a line feed joins no run.
    for run in _DIGIT_RUN.findall("\n".join([text for text in texts if len(text) >= _CARD_DIGITS_MIN])):
        if _is_card_number(run):
            raise Rejected(
                "card_number_refused", "a text holds what looks like a card number; card data must not reach this box"
            )


def _is_card_number(run: str) -> bool:
    digits = run.replace(" ", "").replace("-", "")
    if not digits.isascii():
        digits = "".join([str(int(digit)) for digit in digits])  # digits of every script count
    if not _ISSUER.match(digits):
        return False
    # An EAN passes the issuer's test, so this runs for each line of a sale: bytes are summed faster than text.
    values = digits.encode().translate(_VALUE)
    return (sum(values[-1::-2]) + sum(values[-2::-2].translate(_DOUBLED))) % 10 == 0
