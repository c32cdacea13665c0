"""What the core asks of a provider's own books: every movement of money that it lists in a window of time.

Owns the question and the shape of a line; must never name a vendor. Reading moves nothing, so a failure is
`Unavailable` and the whole window is read again: half a listing proves nothing.

* A page holds at most `LINES_PER_PAGE_MAX` lines; whoever reads keeps none of them longer than needed.
* A window is by the provider's clock, which may lie beside ours: lines near its ends belong to either neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType, Protocol

from appliance.model.ids import OperationId, ProviderReference
from appliance.model.invariants import ensure
from appliance.model.money import Money

LineId = NewType("LineId", str)
"""The provider's name for one movement; never given twice."""
PageMark = NewType("PageMark", str)
"""Where the next page begins, in the provider's own way."""

LINES_PER_PAGE_MAX: Final = 100


class LineKind(StrEnum):
    """What moved. Amounts have the sign that they have for the shop."""

    CHARGE = "charge"
    REFUND = "refund"
    REFUND_FAILED = "refund_failed"  # a refund that the customer's bank did not take came back
    DISPUTE = "dispute"  # taken by a cardholder's bank, or given back by it
    PAYOUT = "payout"  # to the shop's bank account; no sale's money
    OTHER = "other"  # a provider's own fees, reserves and the like


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One movement as the provider books it; amounts in minor units of `currency`.

    Attributes:
        reference: the payment or refund that it is about, by the provider's name; of a dispute the payment. None where
            it is about neither.
        log_origin: the log whose box asked for it, by the names that we left beside it; None where nobody left any.
        operation_id: the same, of the operation.
        fee_minor: what the provider keeps; positive.
        net_minor: what the provider says reaches the shop; `gross_minor - fee_minor`, if it adds up.
        available_ms: when it can be paid out, Unix milliseconds.
        converted_from: what the customer was asked for, or given back, with the sign that it has for the shop; None
            where the provider converted nothing.
    """

    line_id: LineId
    kind: LineKind
    reference: ProviderReference | None
    log_origin: str | None
    operation_id: OperationId | None
    gross_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    created_ms: int
    available_ms: int
    converted_from: Money | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Instants from `begins_ms`, before `ends_ms`, by the provider's clock."""

    begins_ms: int
    ends_ms: int

    def __post_init__(self) -> None:
        ensure(self.begins_ms < self.ends_ms, "a window has a length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Lines in the provider's order; `following` is None on the last page."""

    lines: tuple[Line, ...]
    following: PageMark | None


class Statement(Protocol):
    """One account's movements."""

    @property
    def settle_ms(self) -> int:
        """How long after a movement it may be missing from the list still."""
        ...

    async def page(self, window: Window, after: PageMark | None) -> Page:
        """The next lines of `window`; `after` is the last page's mark, None for the first.

        Lines from before the window may come with them, where a provider gives what it held for days the time at which
        that began. One line may come twice.

        Raises:
            Unavailable: `statement_unread`: not reached, refused, or not understood. Read the window from its start.
        """
        ...

    async def close(self) -> None:
        """Release connections; nothing is asked afterwards."""
        ...
