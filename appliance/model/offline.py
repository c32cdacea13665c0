"""How much of the shop's money may hang on banks that were not asked: the limits, and what one sale may add. Pure.

Exposed is what was accepted offline and is not known yet, and what open intents may still accept: a limit is reserved
before a card is read, so two tills that race for the last cent never both have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.limits import HOUR_MS

OFFLINE_LIMIT_EXCEEDED: Final = "offline_limit_exceeded"


class OfflineLimit(StrEnum):
    """Which limit keeps a sale from being accepted offline."""

    SALE = "sale"
    TERMINAL = "terminal"
    BOX = "box"
    AGE = "age"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeded:
    """`limit` forbids it. Attributes: `left_minor`, the largest amount that it would allow; 0 where none."""

    limit: OfflineLimit
    left_minor: int

    def __str__(self) -> str:
        if self.limit is OfflineLimit.AGE:
            return "the oldest payment that was accepted offline waits too long for its bank already"
        return f"the offline limit per {self.limit} leaves {self.left_minor} minor units"


class OfflineRefused(Rejected):
    """The intent must not allow it. Attributes: `exceeded`, why."""

    def __init__(self, exceeded: Exceeded) -> None:
        super().__init__(OFFLINE_LIMIT_EXCEEDED, str(exceeded))
        self.exceeded = exceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What hangs on banks that were not asked.

    Attributes:
        accepted_minor, accepted_count: accepted and not known yet.
        reserved_minor: what open intents may still accept.
        oldest_ms: when the oldest one was accepted, by the box's clock; None: none waits.
    """

    accepted_minor: int = 0
    accepted_count: int = 0
    reserved_minor: int = 0
    oldest_ms: int | None = None

    @property
    def exposed_minor(self) -> int:
        return self.accepted_minor + self.reserved_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineLimits:
    """In minor units, and hours; any of them 0: nothing is ever accepted offline."""

    sale_minor_max: int = 0
    terminal_minor_max: int = 0
    box_minor_max: int = 0
    age_hours_max: int = 0

    def exceeded(self, amount_minor: int, *, terminal: Exposure, box: Exposure, now_ms: int) -> Exceeded | None:
        """The first limit that `amount_minor` more would break; None: it may be accepted offline.

        A clock that was set back must not make what waits younger: the age counts in both directions.
        """
        if not all((self.sale_minor_max, self.terminal_minor_max, self.box_minor_max, self.age_hours_max)):
            return Exceeded(limit=OfflineLimit.SALE, left_minor=0)
        if amount_minor > self.sale_minor_max:
            return Exceeded(limit=OfflineLimit.SALE, left_minor=self.sale_minor_max)
        for limit, most_minor, exposure in (
            (OfflineLimit.TERMINAL, self.terminal_minor_max, terminal),
            (OfflineLimit.BOX, self.box_minor_max, box),
        ):
            left_minor = max(most_minor - exposure.exposed_minor, 0)
            if amount_minor > left_minor:
                return Exceeded(limit=limit, left_minor=left_minor)
        if box.oldest_ms is not None and abs(now_ms - box.oldest_ms) >= self.age_hours_max * HOUR_MS:
            return Exceeded(limit=OfflineLimit.AGE, left_minor=0)
        return None
