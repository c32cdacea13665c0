"""A simulated trade with simulated fraud in it, from a seed: what the screening model is trained on.

Nothing here was measured in a shop. The rates and shapes below are guesses of ours, so a model trained on them is good
at our guesses: the report says so, and the box only watches with it. Each example is computed by the box's own code
(`appliance/payment/screening/`), so that trainer and box cannot see a sale differently.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.payment.screening.activity import TerminalActivity
from appliance.payment.screening.features import Asked, features_of

TERMINALS: Final = 90
DAYS: Final = 24
_BEGIN_MS: Final = 1_767_225_600_000  # 2026-01-01, UTC
_FRAUD_A_DAY: Final = 0.35  # of a terminal's days see one of the stories below


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sale or refund: whose it is, what the box would see, and whether it is part of a fraud."""

    terminal: int
    features: list[float]
    is_fraud: bool


def simulate(seed: int, *, terminals: int = TERMINALS, days: int = DAYS) -> Iterator[Example]:
    """Every example, terminal by terminal, in the order of time."""
    for terminal in range(terminals):
        yield from _Terminal(_Chance(f"{seed}/{terminal}")).examples(terminal, days)


class _Chance(random.Random):
    """The luck of one till: the same for the same seed. No secret is ever drawn from it."""

    def happens(self, share: float) -> bool:
        """Whether this is one of the times of which `share` go so."""
        return self.random() < share


class _Terminal:
    """One till with its own basket, hours and pace."""

    def __init__(self, chance: _Chance) -> None:
        self._chance = chance
        self._mean = chance.lognormvariate(7.6, 0.7)  # about 20 major units, in minor ones
        self._opens = chance.choice((6, 7, 8, 9, 10, 16))
        self._closes = min(self._opens + chance.choice((8, 10, 12)), 24)
        self._pace = chance.uniform(3, 22)  # sales an hour
        self._sells_by_amount = chance.happens(0.25)

    def examples(self, terminal: int, days: int) -> Iterator[Example]:
        activity = TerminalActivity()
        for day in range(days):
            events = [(asked, False) for asked in self._honest_day(day)]
            if self._chance.happens(_FRAUD_A_DAY):
                events += [(asked, True) for asked in self._fraud(day)]
            for asked, is_fraud in sorted(events, key=lambda event: event[0].at_ms):
                yield Example(terminal=terminal, features=features_of(asked, activity), is_fraud=is_fraud)
                (activity.refunded if asked.is_refund else activity.sold)(asked.at_ms, asked.amount_minor)

    def _honest_day(self, day: int) -> Iterator[Asked]:
        chance = self._chance
        discount_day = chance.happens(0.08)
        hour = float(self._opens)
        while True:
            rush = 2.5 if 11.5 < hour < 13.5 or 17 < hour < 18.5 else 1.0
            hour += chance.expovariate(self._pace * rush)
            if hour >= self._closes:
                break
            sale = self._sale(day, hour)
            if chance.happens(0.5 if discount_day else 0.03):
                sale = replace(sale, discount_share=chance.choice((0.1, 0.2, 0.3, 0.5)))
            if chance.happens(0.006):
                sale = replace(sale, amount_minor=int(sale.amount_minor * chance.uniform(4, 12)))
            yield sale
            if chance.happens(0.012):
                yield self._refund(
                    sale, age_ms=int(chance.expovariate(1 / (60 * HOUR_MS))), share=chance.choice((1, 1, 0.5, 0.3))
                )
            if chance.happens(0.004):  # a mistyped sale, put right at once
                yield self._refund(sale, age_ms=int(chance.uniform(0.2, 3) * MINUTE_MS), share=1)

    def _fraud(self, day: int) -> Iterator[Asked]:
        story = self._chance.choice((self._till_skimming, self._friends, self._stolen_card, self._card_testing))
        yield from story(day)

    def _till_skimming(self, day: int) -> Iterator[Asked]:
        """Staff refund old sales in cash that no customer asked for, at quiet times or after closing."""
        chance = self._chance
        for _ in range(chance.randint(1, 5)):
            late = chance.happens(0.5)
            hour = self._closes + chance.uniform(-0.2, 0.6) if late else chance.uniform(self._opens, self._closes)
            sale = self._sale(day, min(hour, 23.9))
            refund = self._refund(sale, age_ms=int(chance.uniform(0.3, 30) * HOUR_MS), share=1)
            yield replace(
                refund,
                is_card=False,
                amount_minor=int(refund.amount_minor * chance.uniform(1, 3)),
                is_of_another_till=chance.happens(0.4),
            )

    def _friends(self, day: int) -> Iterator[Asked]:
        """Goods go out far under their price."""
        for _ in range(self._chance.randint(1, 4)):
            sale = self._sale(day, self._chance.uniform(self._opens, self._closes))
            share = self._chance.uniform(0.4, 0.95)
            yield replace(sale, discount_share=share, amount_minor=max(int(sale.amount_minor * 2 * (1 - share)), 1))

    def _stolen_card(self, day: int) -> Iterator[Asked]:
        """Large purchases by card, one behind the other."""
        hour = self._chance.uniform(self._opens, self._closes)
        for number in range(self._chance.randint(1, 3)):
            sale = self._sale(day, min(hour + number * self._chance.uniform(0.01, 0.1), 23.9))
            yield replace(sale, is_card=True, amount_minor=int(self._mean * self._chance.uniform(4, 12)))

    def _card_testing(self, day: int) -> Iterator[Asked]:
        """Many small sums by card within minutes."""
        hour = self._chance.uniform(self._opens, self._closes)
        for _ in range(self._chance.randint(5, 14)):
            hour = min(hour + self._chance.uniform(0.003, 0.02), 23.9)
            small = int(self._mean * self._chance.uniform(0.02, 0.25))
            yield replace(self._sale(day, hour), is_card=True, amount_minor=max(small, 1), line_count=1)

    def _sale(self, day: int, hour: float) -> Asked:
        chance = self._chance
        lines = 1 if self._sells_by_amount else 1 + min(int(chance.expovariate(0.5)), 20)
        amount = max(int(self._mean * chance.lognormvariate(-0.2, 0.65)), 1)
        if chance.happens(0.06):
            amount = max(amount // 500, 1) * 500
        return Asked(
            at_ms=_BEGIN_MS + day * DAY_MS + int(hour * HOUR_MS),
            minute=int(hour * 60) % 1440,
            amount_minor=amount,
            currency="EUR",
            is_card=chance.happens(0.6),
            line_count=lines,
            is_amount_only=self._sells_by_amount,
        )

    def _refund(self, sale: Asked, *, age_ms: int, share: float) -> Asked:
        return replace(
            sale,
            at_ms=sale.at_ms + min(age_ms, 2 * MINUTE_MS),
            amount_minor=max(int(sale.amount_minor * share), 1),
            is_refund=True,
            discount_share=0.0,
            line_count=0,
            is_amount_only=False,
            refund_share=float(share),
            refund_age_ms=age_ms,
            is_of_another_till=self._chance.happens(0.15),
        )
