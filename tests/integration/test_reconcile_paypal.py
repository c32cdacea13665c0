"""The log beside PayPal's transaction search: a real ledger, the real adapters and the twin, days that a test ends.

The oracle is what the twin took and gave back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Unavailable
from appliance.model.limits import DAY_MS
from provisioning.sandbox.paypal_twin_report import fee_of
from provisioning.sandbox.stripe_twin_faults import Fault
from tests.integration.paypal_desk import SETTLED_MS, PayPalDesk, open_paypal_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[PayPalDesk]:
    async with open_paypal_desk(tmp_path) as opened:
        yield opened


def fees(*amounts: int) -> int:
    return sum(int(Decimal(fee_of(f"{amount / 100:.2f}")) * 100) for amount in amounts)


async def test_a_day_adds_up_to_the_cent_with_fees_refunds_and_net(desk: PayPalDesk) -> None:
    await desk.sell(990)
    key, _ = await desk.sell(1_250)
    await desk.give_back(key, 450)
    await desk.give_back(key, 300)
    day = desk.end_day()
    answer = await desk.look()
    found = answer.day
    assert (found.day, found.provider, answer.open_count, found.differences) == (day, "paypal", 0, ())
    assert (found.here.charges, found.here.charged, found.here.refunds, found.here.refunded) == (2, 2_240, 2, 750)
    kept = desk.here.kept_minor()
    assert (kept, found.there.gross) == (1_490, 1_490)
    assert (found.there.fee, found.there.net) == (fees(990, 1_250), kept - fees(990, 1_250))


async def test_a_day_is_due_when_the_search_had_its_three_hours(desk: PayPalDesk) -> None:
    await desk.sell(990)
    desk.end_day(-1_000)
    await desk.sell(500)
    desk.end_day(SETTLED_MS - 1)
    assert await desk.reconciliation.due() is None
    desk.clock.pass_time(1)
    answer = await desk.look()
    assert (answer.is_new, answer.open_count, answer.day.there.charged) == (True, 0, 1_490)


async def test_before_that_a_day_is_shown_as_far_as_it_is_listed_and_nothing_is_written(desk: PayPalDesk) -> None:
    await desk.sell(990)
    size = desk.shop.ledger.head.size
    answer = await desk.look()
    assert (answer.breaks, answer.open_count, answer.on_its_way) == ((), 0, 1)
    assert [(each.why, each.amount) for each in answer.day.differences] == [("late", -990)]
    assert (answer.seq, desk.shop.ledger.head.size) == (None, size)
    desk.clock.pass_time(SETTLED_MS)
    answer = await desk.look()
    assert (answer.open_count, answer.on_its_way) == (0, 0)


async def test_a_search_that_was_not_refreshed_is_no_statement(desk: PayPalDesk) -> None:
    await desk.sell(990)
    desk.here.list_after(DAY_MS)
    desk.end_day()
    with pytest.raises(Unavailable, match="not_refreshed") as told:
        await desk.look()
    assert told.value.code == "statement_unread"
    desk.clock.pass_time(DAY_MS - SETTLED_MS)
    assert (await desk.look()).open_count == 0


async def test_a_capture_that_is_held_for_review_counts_on_the_day_on_which_it_was_decided(desk: PayPalDesk) -> None:
    await desk.sell(990)
    await desk.sell(500, "pending")
    first = desk.end_day()
    assert ((await desk.look()).open_count, (await desk.look()).day.there.charged) == (0, 990)
    desk.decide(is_taken=True)
    await desk.shop.settle()
    second = desk.end_day()
    answer = await desk.look()
    assert (answer.day.day, answer.open_count, answer.day.differences) == (second, 0, ())
    assert (answer.day.here.charged, answer.day.there.charged, answer.day.there.fee) == (500, 500, fees(500))
    again = await desk.look()
    assert (again.seq, again.is_new) == (answer.seq, False)
    desk.end_day()
    third = await desk.look()
    assert (third.day.here.charged, third.day.there.charged, third.open_count) == (0, 0, 0)
    assert (await desk.look(first)).day.there.charged == 990


async def test_a_capture_that_was_held_and_denied_is_nowhere(desk: PayPalDesk) -> None:
    await desk.sell(500, "pending")
    await desk.sell(990)
    held = desk.here.store.newest_first("order")[1]
    desk.here.decide(held["id"], is_taken=False)
    await desk.shop.settle()
    desk.end_day()
    answer = await desk.look()
    assert (answer.day.here.charged, answer.day.there.charged, answer.open_count) == (990, 990, 0)


@pytest.mark.parametrize(
    ("what", "more", "found"),
    [
        ("gone", {}, ("late", "provider")),
        ("doubled", {}, ("doubled", "shop")),
        ("changed", {"value": "9.91"}, ("amount", "provider")),
        ("changed", {"currency": "USD"}, ("currency", "shop")),
        ("changed", {"fee": "9.00"}, ("fee", "provider")),
        ("disputed", {}, ("missing_here", "shop")),
    ],
)
async def test_what_differs_is_found_with_its_type_and_owner(
    desk: PayPalDesk, what: str, more: dict[str, str], found: tuple[str, str]
) -> None:
    _, capture = await desk.sell(990)
    await desk.sell(1_250)
    desk.here.plant(capture, what, **more)
    day = desk.end_day()
    assert await desk.kinds() == [(*found, day)]


async def test_what_somebody_else_took_on_the_account_is_missing_here_and_a_withdrawal_is_none(
    desk: PayPalDesk,
) -> None:
    _, capture = await desk.sell(990)
    desk.here.take("20.00", "Thank you for/1")
    desk.here.take("30.00", "corner-shop.example/OTHER/1 0199aaaa/0")
    desk.here.plant(capture, "withdrawn")
    day = desk.end_day()
    answer = await desk.look()
    assert [(each.type, each.owner, each.since) for each in answer.breaks] == [("missing_here", "shop", day)]
    assert {each.why: each.amount for each in answer.day.differences} == {"missing_here": 2_000, "elsewhere": 3_000}
    assert (answer.day.there.payout, answer.day.there.others) == (-990, 1)


async def test_a_line_that_comes_days_late_closes_its_break(desk: PayPalDesk) -> None:
    _, capture = await desk.sell(990)
    desk.here.plant(capture, "gone")
    first = desk.end_day()
    assert await desk.kinds() == [("late", "provider", first)]
    desk.here.show(capture)
    desk.end_day()
    answer = await desk.look()
    assert (answer.open_count, [each.type for each in answer.day.closed]) == (0, ["late"])
    assert {each.why: each.amount for each in answer.day.differences} == {"other_day": 990}
    desk.end_day()
    assert (await desk.look()).day.differences == ()


async def test_half_an_answer_leaves_the_day_due(desk: PayPalDesk) -> None:
    await desk.sell(990)
    desk.end_day()
    size = desk.shop.ledger.head.size
    desk.here.twin.faults.add(Fault(fault="truncated_json", path="/v1/reporting/transactions"))
    with pytest.raises(Unavailable, match="answer_unreadable"):
        await desk.look()
    assert desk.shop.ledger.head.size == size
    assert (await desk.look()).is_new


async def test_more_than_the_search_gives_at_once_is_asked_for_in_halves(
    desk: PayPalDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.sandbox.paypal_twin_report.RESULTS_MAX", 4)
    for number in range(11):
        await desk.sell(1_000 + number)
        desk.clock.pass_time(1_500)
    desk.end_day()
    answer = await desk.look()
    assert (answer.open_count, answer.day.there.charges) == (0, 11)
    assert answer.day.there.charged == sum(1_000 + number for number in range(11))


async def test_a_second_with_more_than_the_search_gives_is_told(
    desk: PayPalDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.sandbox.paypal_twin_report.RESULTS_MAX", 1)
    await desk.sell(1_000)
    await desk.sell(1_001)
    desk.end_day()
    with pytest.raises(Unavailable, match="too many"):
        await desk.look()


async def test_an_app_without_the_right_to_search_is_told_which_it_needs(desk: PayPalDesk) -> None:
    await desk.sell(990)
    desk.end_day()
    other: Any = desk.here.statement(client="client-with-no-search")
    reconciliation = desk.reconciliation
    vars(reconciliation)["_statement"] = other
    with pytest.raises(Unavailable, match="Transaction Search"):
        await desk.look()
    await other.close()
