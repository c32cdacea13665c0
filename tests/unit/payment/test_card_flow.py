"""Card money under faults and second thoughts, in any order: what the log says and what the provider keeps agree.

The steps are drawn by Hypothesis; the laws are checked once everything has settled:
- nothing is being checked any more, and no operation is open;
- of each payment the provider keeps the card's amount while the log says "approved", of one partly refunded what the
  log says is left of it, else nothing;
- of a payment and the one that tried it again (`retry_of`) one keeps its money at most;
- a payment is charged at most once, whatever was retried; what is held is captured or given up, never both.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model.errors import Rejected, Unavailable
from appliance.ports.provider import Authorise
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop

AMOUNT: Final = 700
CASH_AMOUNT: Final = 50
TIP: Final = 100
SOURCES: Final = ("pm_card_visa", "pm_card_visa", "pm_card_visa_chargeDeclinedInsufficientFunds")
SWITCHES: Final = (Switch.NOT_SENT, Switch.FAIL_BEFORE, Switch.FAIL_AFTER, Switch.LIE)
PAYMENTS_MAX: Final = 3

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.integers(0, PAYMENTS_MAX - 1), st.sampled_from(SOURCES)),
        st.tuples(st.just("hold"), st.integers(0, PAYMENTS_MAX - 1), st.sampled_from(SOURCES)),
        st.tuples(st.just("again"), st.permutations(range(PAYMENTS_MAX)), st.sampled_from(["cash", *SOURCES])),
        st.tuples(st.just("capture"), st.integers(0, PAYMENTS_MAX - 1), st.sampled_from([None, 650, 701])),
        st.tuples(st.just("refund"), st.integers(0, PAYMENTS_MAX - 1), st.sampled_from([None, 1, 300, 400, 720])),
        st.tuples(st.sampled_from(["reversal", "abort"]), st.integers(0, PAYMENTS_MAX - 1), st.none()),
        st.tuples(st.just("strike"), st.integers(1, 2), st.sampled_from(SWITCHES)),
        st.tuples(st.sampled_from(["look", "wait", "rest"]), st.none(), st.none()),
    ),
    max_size=14,
)


class Story:
    """One run: three keys, each paid with what the first request for it said."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.keys = [shop.new_key() for _ in range(PAYMENTS_MAX)]
        self.sources: dict[str, str] = {}
        self.sales: dict[str, dict[str, Any]] = {}

    async def take(self, step: tuple[Any, Any, Any]) -> None:
        """Do one thing; being refused or put off is a lawful answer."""
        shop = self.shop
        match step:
            case "pay", number, source:
                key = self.keys[number]
                source = self.sources.setdefault(key, source)
                await self.ask(shop.pipeline.pay, "payment", sale(source), key)
            case "hold", number, source:
                key = self.keys[number]
                source = self.sources.setdefault(key, source)
                await self.ask(shop.pipeline.pay, "payment", held(source), key)
            case "again", (first, number, *_), source:
                key = self.keys[number]
                again = {**(in_cash() if source == "cash" else sale(source)), "retry_of": [self.keys[first]]}
                await self.ask(shop.pipeline.pay, "payment", self.sales.setdefault(key, again), key)
            case ("refund" | "capture") as verb, number, amount:
                part = {} if amount is None else {"amount_minor": amount}
                ask = shop.pipeline.refund if verb == "refund" else shop.pipeline.capture
                await self.ask(ask, verb, {"of": self.keys[number], **part}, None)
            case "reversal", number, _:
                await self.ask(shop.pipeline.reverse, "reversal", {"of": self.keys[number]}, None)
            case "abort", number, _:
                await self.ask(shop.pipeline.abort, "abort", {"of": self.keys[number]}, None)
            case "strike", times, switch:
                shop.provider.strike(switch, times)
            case "look", _, _:
                await shop.resolver.look()
            case "wait", _, _:
                shop.clock.pass_time(70_000)
            case _:
                await shop.works_done()

    async def ask(self, verb: Any, name: str, body: dict[str, Any], key: str | None) -> None:
        try:
            await verb(self.shop.request(name, body, key))
        except (Rejected, Unavailable):
            return

    async def check(self) -> None:
        shop = self.shop
        shop.provider.strikes_left = 0
        await shop.settle()
        assert await shop.rows("SELECT id FROM operations WHERE state IN ('prepared', 'unknown')") == []
        left = "card - card_back, cash - cash_back, card_back + cash_back"
        kept = await shop.rows(f"SELECT state, {left} FROM payments WHERE is_charged")
        assert shop.provider.charged_minor() == sum(card for _, card, _, _ in kept)
        for state, card, cash, back in kept:
            match state:
                case "approved":
                    assert back == 0
                case "partly_refunded":
                    assert card + cash > 0
                    assert back > 0
                case _:
                    assert (state, card, cash) in (("refunded", 0, 0), ("reversed", 0, 0))
        tried = (
            "SELECT a.state, b.state FROM retries"
            " JOIN payments a ON a.key = retries.earlier JOIN payments b ON b.key = retries.payment"
        )
        keeps = ("approved", "authorised", "partly_refunded")
        for first, again in await shop.rows(tried):
            assert not (first in keeps and again in keeps), "one customer paid twice"
        holding = await shop.rows("SELECT held, is_charged FROM payments WHERE state = 'authorised' OR held > 0")
        assert shop.provider.held_minor() == sum(held for held, _ in holding)
        assert all(held == AMOUNT and not is_charged for held, is_charged in holding)
        charged = Counter(
            operation.reference.payment_key for operation in shop.provider.asked if isinstance(operation, Authorise)
        )
        assert all(count == 1 for count in charged.values()), "the provider was asked once for each payment"
        stopped = await shop.rows("SELECT state FROM payments WHERE reversal IS NOT NULL")
        assert all(state in ("refunded", "reversed", "declined", "not_charged") for (state,) in stopped)
        held = await shop.rows("SELECT state FROM refunds WHERE state = 'being_checked'")
        assert held == []


def held(source: str) -> dict[str, Any]:
    tender = {"kind": "card", "amount_minor": AMOUNT, "source": source}
    return {
        "currency": "EUR",
        "amount_minor": AMOUNT - TIP,
        "tip_minor": TIP,
        "tenders": [tender],
        "capture": "later",
    }


def in_cash() -> dict[str, Any]:
    amount = AMOUNT + CASH_AMOUNT
    return {"currency": "EUR", "amount_minor": amount, "tenders": [{"kind": "cash", "amount_minor": amount}]}


def sale(source: str) -> dict[str, Any]:
    tenders = [
        {"kind": "cash", "amount_minor": CASH_AMOUNT},
        {"kind": "card", "amount_minor": AMOUNT, "source": source},
    ]
    return {"currency": "EUR", "amount_minor": AMOUNT + CASH_AMOUNT, "tenders": tenders}


async def tell(steps: list[tuple[Any, Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_shop(Path(folder)) as shop:
            story = Story(shop)
            for step in steps:
                await story.take(step)
            await story.check()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_log_and_provider_agree_whatever_happens(steps: list[tuple[Any, Any, Any]]) -> None:
    asyncio.run(tell(steps))
