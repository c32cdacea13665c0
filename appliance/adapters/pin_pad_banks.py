"""What banks said of cards that PIN pads had accepted without them, kept until it is in the log.

A pad tells it once, while it hands in, of everything that it kept; the payments are asked about one by one afterwards.
What is only remembered here is gone with the process: a payment whose word nobody heard stays being checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.adapters.pin_pad_name import PadPayment
from appliance.adapters.pin_pad_reply import confirmed, declined, is_banks_no
from appliance.ports.provider import Confirmed, Declined, Forward, Unknown
from drivers.serial.pin_pad import HEARD_MAX
from drivers.serial.zvt import RESULT_OK, PaymentStatus

WORDS_MAX: Final = 2 * HEARD_MAX
"""More than one handing in tells of; the oldest goes first."""
_Kept = tuple[str, str | None, int | None]


class BankWords:
    """Words by pad, its name at the bank, and trace."""

    def __init__(self) -> None:
        self._words: dict[_Kept, PaymentStatus] = {}

    def hear(self, pad: str, told: Iterable[PaymentStatus]) -> None:
        """A pad spoke of payments. What is not clearly a bank's yes or no, such as a line that broke, is no word."""
        for status in told:
            if status.trace is not None and _is_word(status):
                self._words.pop((pad, status.terminal, status.trace), None)
                self._words[pad, status.terminal, status.trace] = status
        while len(self._words) > WORDS_MAX:
            del self._words[next(iter(self._words))]

    def forget(self, accepted: PadPayment) -> None:
        """It was accepted just now: what was heard under its numbers before spoke of another payment."""
        self._words.pop((accepted.pad, accepted.terminal, accepted.trace), None)

    def said(self, operation: Forward, of: PadPayment, now_ms: int) -> Confirmed | Declined | Unknown | None:
        """The bank's word on `of`; None: none was heard."""
        status = self._words.get((of.pad, of.terminal, of.trace))
        if status is None or not of.is_meant_by(status):
            return None
        if status.result is not None and is_banks_no(status.result):
            return declined(status.result, is_given_up=False)
        if status.amount_minor != operation.amount.amount_minor:
            return Unknown(reason="amount_differs")
        return confirmed(of, operation, now_ms)


def _is_word(status: PaymentStatus) -> bool:
    """A payment that is still marked as accepted offline was not at its bank."""
    if status.result == RESULT_OK:
        return not status.is_offline
    return status.result is not None and is_banks_no(status.result)
