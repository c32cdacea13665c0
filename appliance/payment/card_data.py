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

_DIGIT_RUN: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
# Visa 4; Mastercard 51-55, 2221-2720; American Express, JCB, Diners 3; Discover, UnionPay 6; Maestro 50, 56-58.
_ISSUER: Final = re.compile(r"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[0-9]|6")


def refuse_card_numbers(texts: Iterable[str]) -> None:
    """Raise Rejected `card_number_refused` if any text holds a likely card number; the text itself is not repeated."""
    for text in texts:
        if len(text) >= 13 and any(_is_card_number(run.group()) for run in _DIGIT_RUN.finditer(text)):
            raise Rejected(
                "card_number_refused", "a text holds what looks like a card number; card data must not reach this box"
            )


def _is_card_number(run: str) -> bool:
    digits = [int(character) for character in run if character.isdigit()]
    if not _ISSUER.match("".join(map(str, digits))):
        return False
    doubled = [digit if index % 2 == 0 else sum(divmod(2 * digit, 10)) for index, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
