"""What a payment at a PIN pad is called: everything that tells it from any other one there.

    counter/52500041/17/23/1250/978/paid/1127143000      pad, its name at the bank, trace, receipt, amount, currency
    counter/none                                         the PIN pad says that it has no last payment

The name of the payment that a PIN pad took last is also the mark to which a later one is compared: a PIN pad has
neither idempotency keys nor a list, only its last payment. Counters start again one day, and pads are replaced: so a
name has more in it than a number. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from appliance.model.ids import ProviderReference
from drivers.serial.zvt import RESULT_OK, PaymentStatus

_NAME: Final = re.compile(
    r"\A([a-z0-9-]{1,32})/(?:none|([0-9a-f]{8}|-)/([0-9]{1,6}|-)/([0-9]{1,4}|-)/([0-9]{1,12}|-)/([0-9]{1,4}|-)"
    r"/(paid|offline|undid-[0-9]{1,6}|no)/([0-9]{10}|-))\Z"
)
_TRACES: Final = 1_000_000  # a trace number has six digits


@dataclass(frozen=True, slots=True, kw_only=True)
class PadPayment:
    """The last thing that a PIN pad did with money; None where it does not say.

    Attributes:
        end: `paid` (taken, or given back by 06 31: a status does not tell these apart), `offline` (taken without its
            bank), `undid-N` (reversed the trace N), `no` (nothing moved), `none` (there is none).
        stamp: month to second on the PIN pad's own clock.
    """

    pad: str
    end: str = "none"
    terminal: str | None = None
    trace: int | None = None
    receipt: int | None = None
    amount_minor: int | None = None
    currency: int | None = None
    stamp: str | None = None

    @property
    def is_none(self) -> bool:
        """The PIN pad has no last payment, or says so."""
        return self.end == "none"

    @property
    def is_named(self) -> bool:
        """It can be told from another one."""
        return self.trace is not None or self.receipt is not None

    @property
    def is_taken(self) -> bool:
        """Money moved one way, with or without the bank."""
        return self.end in ("paid", "offline")

    @property
    def has_moved(self) -> bool:
        """Money moved, whichever way."""
        return self.end not in ("no", "none")

    @property
    def reference(self) -> ProviderReference:
        """As the log keeps it."""
        if self.is_none:
            return ProviderReference(f"{self.pad}/none")
        parts = (self.terminal, self.trace, self.receipt, self.amount_minor, self.currency, self.end, self.stamp)
        return ProviderReference("/".join([self.pad, *("-" if part is None else str(part) for part in parts)]))

    def is_same(self, other: PadPayment) -> bool:
        """Whether both name one payment, in every word."""
        return self == other and not self.is_none and self.is_named

    def is_other(self, other: PadPayment) -> bool:
        """Whether they are two for certain: one PIN pad gave them different numbers, or had none before.

        Neither same nor other is what a pad says whose counters started again, or that tells one payment in two ways.
        """
        if self.is_none or not self.is_named or self.pad != other.pad:
            return False
        if other.is_none:
            return True
        return self.terminal == other.terminal and (
            _differ(self.trace, other.trace) or _differ(self.receipt, other.receipt)
        )

    def is_next_after(self, other: PadPayment) -> bool:
        """Whether nothing at all lies between them: the numbers follow one another at one PIN pad."""
        if self.trace is None or other.trace is None or (self.pad, self.terminal) != (other.pad, other.terminal):
            return False
        return self.trace == (other.trace + 1) % _TRACES

    def is_meant_by(self, status: PaymentStatus) -> bool:
        """Whether `status` speaks of it, by the numbers that both have."""
        is_its = self.trace is not None and (self.trace, self.terminal) == (status.trace, status.terminal)
        return is_its and not _differ(self.receipt, status.receipt)

    def undoes(self, other: PadPayment) -> bool:
        """Whether it is a reversal of `other`."""
        return other.trace is not None and self.end == f"undid-{other.trace}" and self.terminal == other.terminal


def payment_of(pad: str, status: PaymentStatus) -> PadPayment:
    """What the PIN pad's status speaks of."""
    if status.result != RESULT_OK:
        end = "no"
    elif status.original_trace is not None:
        end = f"undid-{status.original_trace}"
    else:
        end = "offline" if status.is_offline else "paid"
    return PadPayment(
        pad=pad,
        end=end,
        terminal=status.terminal,
        trace=status.trace,
        receipt=status.receipt,
        amount_minor=status.amount_minor,
        currency=status.currency,
        stamp=status.stamp,
    )


def parse(reference: str | None) -> PadPayment | None:
    """The payment of this name; None when it is no such name."""
    found = _NAME.match(reference or "")
    if found is None:
        return None
    pad, terminal, trace, receipt, amount, currency, end, stamp = found.groups()
    if end is None:
        return PadPayment(pad=pad)
    return PadPayment(
        pad=pad,
        end=end,
        terminal=None if terminal == "-" else terminal,
        trace=_number(trace),
        receipt=_number(receipt),
        amount_minor=_number(amount),
        currency=_number(currency),
        stamp=None if stamp == "-" else stamp,
    )


def _differ(one: int | None, other: int | None) -> bool:
    """A number that only one of them has tells nothing."""
    return None not in (one, other) and one != other


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)
