"""Owns the promise of a card that is approved for less: only where the till takes that, and the rest stays open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.model.money import Money
from appliance.ports.provider import Answer, Authorise, Confirmed, PartlyConfirmed
from tests.fakes.clock import FakeClock
from tests.fakes.provider import PARTIAL, FakeProvider, Switch
from tests.unit.payment.parts import (
    LINES,
    TAXES,
    TOTAL,
    books,
    later_body,
    pay,
    refund,
    refused,
    reverse,
    stands,
    states,
    status,
    taken,
)
from tests.unit.payment.shop import open_shop

TOOK = TOTAL * 70 // 100


def whole(source: str = PARTIAL, **more: Any) -> dict[str, Any]:
    """The whole sale by one card."""
    tender = {"kind": "card", "amount_minor": TOTAL, "source": source}
    return {
        "currency": "EUR",
        "lines": LINES,
        "taxes": TAXES,
        "total_minor": TOTAL,
        "tenders": [tender],
        "partial": "accepted",
        **more,
    }


async def test_a_card_approved_for_less_leaves_the_rest_of_the_sale_open(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, whole())
        answer = await status(shop, first)
        assert (answer.state, answer.total_minor) == ("approved", TOOK)
        sale = await stands(shop, first)
        assert (sale.total_minor, sale.paid_minor, sale.remaining_minor) == (TOTAL, TOOK, TOTAL - TOOK)
        period = await books(shop)
        assert (period.totals.sales, taken(period)) == (0, {"card": (TOOK, 0)})
        await pay(shop, later_body(first, TOTAL - TOOK, "cash"))
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)
        assert taken(period) == {"card": (TOOK, 0), "cash": (TOTAL - TOOK, 0)}
        assert (await refund(shop, first)).given_minor == TOOK
        assert shop.provider.charged_minor() == 0


async def test_a_card_with_enough_pays_the_sale_alone(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, whole("pm_card_visa"))
        assert (await stands(shop, first)).remaining_minor == 0
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)


async def test_a_till_that_does_not_ask_for_it_never_gets_less(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, whole(partial="refused"))
        assert await states(shop, first) == ["declined"]
        assert not any(isinstance(asked, Authorise) and asked.may_be_partial for asked in shop.provider.asked)


async def test_a_later_part_may_be_approved_for_less_too(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, whole())
        second = await pay(shop, later_body(first, TOTAL - TOOK, source=PARTIAL, partial="accepted"))
        rest = (TOTAL - TOOK) - (TOTAL - TOOK) * 70 // 100
        assert (await stands(shop, second)).remaining_minor == rest
        await pay(shop, later_body(first, rest, "cash"))
        assert (await books(shop)).totals.total == TOTAL


async def test_an_approval_for_less_whose_answer_was_lost_is_found(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        first = await pay(shop, whole())
        assert await states(shop, first) == ["being_checked"]
        assert await refused(shop, later_body(first, 1, "cash")) == "part_above_remaining", "it may be approved whole"
        await shop.settle()
        assert (await stands(shop, first)).paid_minor == TOOK
        shop.provider.strike(Switch.FAIL_AFTER)
        await pay(shop, later_body(first, TOTAL - TOOK))
        await shop.settle()
        assert (await books(shop)).totals.total == TOTAL


async def test_giving_up_gives_back_what_was_taken(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, whole())
        await reverse(shop, first)
        await shop.settle()
        assert await states(shop, first) == ["reversed"]
        assert shop.provider.charged_minor() == 0
        period = await books(shop)
        assert (period.totals.sales, period.totals.parts_taken, period.totals.parts_returned) == (0, TOOK, TOOK)


async def test_less_is_of_one_card_without_a_tip(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        both = [{"kind": "card", "amount_minor": 4000}, {"kind": "cash", "amount_minor": 1000}]
        assert await refused(shop, whole(tenders=both)) == "partial_needs_one_card"
        with_tip = [{"kind": "card", "amount_minor": TOTAL + 100}]
        assert await refused(shop, whole(tenders=with_tip, tip_minor=100)) == "partial_needs_one_card"
        assert await refused(shop, whole(capture="later")) == "later_needs_one_card"


class Generous(FakeProvider):
    """Approves less although nobody allowed it."""

    async def authorise(self, operation: Authorise) -> Answer:
        answer = await super().authorise(operation)
        assert isinstance(answer, Confirmed)
        less = Money(operation.amount.amount_minor - 1, operation.amount.currency)
        return PartlyConfirmed(provider_reference=answer.provider_reference, amount=less, confirmed_ms=1)


async def test_less_that_nobody_allowed_is_being_checked(tmp_path: Path) -> None:
    clock = FakeClock()
    async with open_shop(tmp_path, clock=clock, asked=Generous(clock=clock)) as shop:
        first = await pay(shop, whole("pm_card_visa", partial="refused"))
        answer = await status(shop, first)
        assert (answer.state, answer.code) == ("being_checked", "amount_differs")
