"""What each terminal did lately, in memory: all that rules and model know of the past.

Bounded: so many terminals, each with two windows and two numbers; who was away longest is forgotten first. Nothing here
is a record: after a start it is counted anew from the end of the log (`judge.py`).
"""

from __future__ import annotations

from typing import Final

from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.payment.screening.window import Window

TERMINALS_MAX: Final = 256
SALES_SPAN_MS: Final = HOUR_MS
REFUNDS_SPAN_MS: Final = 24 * HOUR_MS
_REFUND_SLOT_MS: Final = 15 * MINUTE_MS
_MEAN_OF: Final = 32  # sales that the running mean remembers, about


class TerminalActivity:
    """One terminal's last day."""

    __slots__ = ("last_ms", "mean_minor", "refunds", "refused", "sales")

    def __init__(self) -> None:
        self.sales = Window(slot_ms=MINUTE_MS, slots=SALES_SPAN_MS // MINUTE_MS + 1)
        self.refunds = Window(slot_ms=_REFUND_SLOT_MS, slots=REFUNDS_SPAN_MS // _REFUND_SLOT_MS + 1)
        self.refused = Window(slot_ms=MINUTE_MS, slots=2)
        self.last_ms: int | None = None
        self.mean_minor = 0.0

    def sold(self, at_ms: int, amount_minor: int) -> None:
        """Count one sale that was written."""
        self.sales.add(at_ms, amount_minor)
        self.wrote(at_ms, amount_minor)

    def wrote(self, at_ms: int, amount_minor: int) -> None:
        """What the running numbers learn of a sale: they cannot be taken back, so only once it is written."""
        self.last_ms = at_ms if self.last_ms is None else max(at_ms, self.last_ms)
        self.mean_minor += (amount_minor - self.mean_minor) / _MEAN_OF if self.mean_minor else amount_minor

    def refunded(self, at_ms: int, amount_minor: int) -> None:
        """Count one refund."""
        self.refunds.add(at_ms, amount_minor)


class Activity:
    """Every terminal's."""

    def __init__(self) -> None:
        self._terminals: dict[str, TerminalActivity] = {}

    def of(self, terminal: str) -> TerminalActivity:
        """The terminal's; a new one begins with nothing."""
        known = self._terminals.pop(terminal, None)
        if known is None:
            known = TerminalActivity()
            if len(self._terminals) >= TERMINALS_MAX:
                del self._terminals[next(iter(self._terminals))]
        self._terminals[terminal] = known  # behind all others: dictionaries keep their order
        return known
