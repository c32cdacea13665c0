"""A sale that is paid in parts, each a payment of its own: what was taken, what may still be, what is left. Pure.

Owns the rule that parts obey in the writer's transaction: what they took and what open ones may yet take never exceeds
the sale's total. Of tries of one part (`retry_of`) one keeps its money at most, so together they count as the largest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.model.ids import RequestKey
from appliance.model.payment import PaymentState

_KEEPS_NOTHING: Final = frozenset(
    {
        PaymentState.DECLINED,
        PaymentState.DECLINED_AFTER_HANDOVER,
        PaymentState.NOT_CHARGED,
        PaymentState.EXPIRED,
        PaymentState.CANCELLED,
        PaymentState.REVERSED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SalePart:
    """One payment of a sale.

    Attributes:
        covers_minor: how much of the sale's total it is for; tip and cash rounding are its own.
        left_minor: what may still be given back of it.
        is_paid: it took its money at some time.
        is_wanted_back: a reversal is durable: in the end it keeps nothing.
        tries: the other payments that try the same part.
    """

    key: RequestKey
    state: PaymentState
    covers_minor: int
    left_minor: int
    is_paid: bool
    is_wanted_back: bool
    tries: frozenset[RequestKey] = frozenset()

    @property
    def counts(self) -> bool:
        """It keeps money, or still may; of one whose card was lost what else paid.

        What a refund gave back was sold, also when a reversal came meanwhile and found nothing left.
        """
        if self.state is PaymentState.REFUNDED:
            return True
        is_kept_beside = self.state is PaymentState.DECLINED_AFTER_HANDOVER and self.left_minor > 0
        return not self.is_wanted_back and (self.state not in _KEEPS_NOTHING or is_kept_beside)

    @property
    def is_going_back(self) -> bool:
        return self.is_wanted_back and self.state is PaymentState.CHECKING


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleInParts:
    """How a sale stands.

    Attributes:
        key: of its first part, which has the lines.
        closed_by: the request that gave it up, or the try that stands in its place; no part follows.
        is_refunded: a refund gave back of it: it is not opened again.
        parts: in the order that they came.
    """

    key: RequestKey
    total_minor: int
    closed_by: RequestKey | None
    is_refunded: bool
    parts: tuple[SalePart, ...]

    @property
    def paid_minor(self) -> int:
        return sum(part.covers_minor for part in self.parts if part.counts and part.is_paid)

    @property
    def remaining_minor(self) -> int:
        return max(self.total_minor - self.paid_minor, 0)

    @property
    def is_complete(self) -> bool:
        return self.paid_minor >= self.total_minor

    def room_minor(self, retry_of: Iterable[RequestKey] = ()) -> int:
        """What one more part may cover; one that tries `retry_of` again may take their place."""
        again = frozenset(retry_of)
        return self.total_minor - sum(
            max(part.covers_minor for part in group)
            for group in _groups(self.parts)
            if not again & {part.key for part in group}
        )


def _groups(parts: Iterable[SalePart]) -> list[list[SalePart]]:
    """Those that may keep money, tries of one part together."""
    groups: list[list[SalePart]] = []
    for part in parts:
        if part.counts:
            own = [group for group in groups if any(part.key in other.tries for other in group)]
            groups = [group for group in groups if group not in own]
            groups.append([part, *(other for group in own for other in group)])
    return groups
