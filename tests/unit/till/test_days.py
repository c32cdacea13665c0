"""A shop's day is closed once, adds up, and what comes late stands in the next one with a reference."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.runtime.log import Log
from appliance.runtime.supervise import supervised
from appliance.wire.till_entries import CashFacts, TotalsFacts
from tests.fakes.clock import FakeClock
from tests.fakes.provider import Switch
from tests.unit.payment.shop import CALENDAR, Shop, open_shop
from tests.unit.till.acts import act, card, cash, pay, report

SATURDAY = CALENDAR.day(datetime.date(2026, 10, 24))
"""25 hours long: the clock goes back in its last night."""


def clock_at(hour: int) -> FakeClock:
    return FakeClock(SATURDAY.begins_ms + hour * HOUR_MS)


async def until(shop: Shop, hour: int) -> None:
    shop.clock.pass_time(SATURDAY.begins_ms + hour * HOUR_MS - shop.clock.now_ms())
    await shop.days.close_due()


async def days(shop: Shop) -> list[str]:
    return [day for (day,) in await shop.rows("SELECT day FROM till_days ORDER BY seq")]


async def test_day_closes_by_itself_at_the_cut_off_and_not_an_hour_before(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(6)) as shop:
        await pay(shop, cash(1_000))
        await until(shop, 24)  # 03:00, for the second time that night
        assert await days(shop) == []
        await until(shop, 25)
        assert await days(shop) == ["2026-10-24"]
        await until(shop, 70)
        assert await days(shop) == ["2026-10-24"], "a day without a fact is not closed"


async def test_days_close_by_themselves_also_when_the_clock_steps(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(6)) as shop:
        await pay(shop, cash(1_000))
        shop.clock.step(30 * HOUR_MS)
        await shop.days.close_due()
        shop.clock.step(-30 * HOUR_MS)
        await pay(shop, cash(500))
        await shop.days.close_due()
        assert await days(shop) == ["2026-10-24"]
        await until(shop, 25)
        assert await days(shop) == ["2026-10-24"], "what was sold after the close is tomorrow's"
        await until(shop, 49)
        assert await days(shop) == ["2026-10-24", "2026-10-25"]


async def test_close_says_what_every_drawer_did_and_the_next_day_begins_there(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(6)) as shop:
        await shop.pair("till-2")
        await act(shop, "float", 10_000)
        await act(shop, "float", 5_000, terminal="till-2")
        await pay(shop, cash(1_190, 2_000))
        refunded = shop.new_key()
        await pay(shop, cash(500), terminal="till-2", key=refunded)
        await shop.pipeline.refund(shop.request("refund", {"of": refunded}, terminal="till-2"))
        await act(shop, "no_sale")
        await report(shop, "z")
        await act(shop, "count", 11_200)

        closed = await shop.days.close()

        assert (closed.is_new, closed.receipt is None) == (True, False)
        assert (closed.day.day, closed.day.zone, closed.day.cut_off) == ("2026-10-24", "Europe/Berlin", "04:00")
        assert closed.day.ends_ms - closed.day.begins_ms == 25 * HOUR_MS
        assert closed.day.period.totals == TotalsFacts(sales=2, total=1_690, refunds=1, refunded=500, no_sales=1)
        assert closed.day.period.cash == CashFacts(
            floats=15_000, opening=0, sales=1_690, refunds=500, expected=16_190, difference=10, left=16_200
        )
        assert [(stand.drawer, stand.cash.left) for stand in closed.day.drawers] == [
            ("till-1", 11_200),
            ("till-2", 5_000),
        ]
        following = (await shop.days.standing()).day
        assert (following.day, following.period.number, following.period.after) == ("2026-10-25", 2, closed.seq)
        assert following.period.cash == CashFacts(opening=16_200, expected=16_200, left=16_200)


async def test_second_close_of_a_day_returns_the_first(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(18)) as shop:
        with pytest.raises(Rejected, match="day_empty"):
            await shop.days.close()
        await pay(shop, cash(1_000))
        first = await shop.days.close()
        await pay(shop, cash(300))
        second = await shop.days.close()
        assert (second.is_new, second.seq, second.day) == (False, first.seq, first.day)
        await until(shop, 30)
        assert (await shop.days.close()).day.period.totals.total == 300


async def test_payment_that_is_resolved_late_is_the_next_days_with_a_reference(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(18)) as shop:
        await pay(shop, cash(1_000))
        shop.provider.strike(Switch.FAIL_AFTER)
        key = shop.new_key()
        await pay(shop, card(4_200), key=key)
        await shop.works_done()
        first = (await shop.days.close()).day
        (being_checked,) = first.open
        assert (first.open_count, being_checked.amount, first.period.totals.total) == (1, 4_200, 1_000)

        await shop.settle()
        await until(shop, 26)
        second = (await shop.days.close()).day

        assert second.period.totals == TotalsFacts(sales=1, total=4_200)
        assert (second.open, second.late_count) == ((), 1)
        (late,) = second.late
        assert (late.day, late.state, late.amount) == ("2026-10-24", "confirmed", 4_200)
        assert (late.intent, late.payment) == (being_checked.intent, being_checked.payment)
        await pay(shop, cash(1))
        assert (await shop.days.standing()).day.late == (), "told once"


async def test_refund_that_is_known_late_is_the_next_days(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(18)) as shop:
        key = shop.new_key()
        await pay(shop, card(4_200), key=key)
        await shop.works_done()
        shop.provider.strike(Switch.FAIL_AFTER)
        await shop.pipeline.refund(shop.request("refund", {"of": key}))
        await shop.works_done()
        first = (await shop.days.close()).day
        assert ([each.kind for each in first.open], first.period.totals.refunds) == (["refund"], 0)
        await shop.settle()
        second = (await shop.days.standing()).day
        assert [(late.kind, late.state, late.day) for late in second.late] == [("refund", "confirmed", first.day)]
        assert second.period.totals == TotalsFacts(refunds=1, refunded=4_200)


async def test_day_is_closed_while_tills_sell_and_each_sale_is_in_one_day(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(18)) as shop:
        await pay(shop, cash(1))
        async with asyncio.TaskGroup() as selling:
            for amount in range(100, 200):
                selling.create_task(pay(shop, cash(amount)))
            closing = selling.create_task(shop.days.close())
        first, second = closing.result().day, (await shop.days.standing()).day
        assert first.period.totals.total + second.period.totals.total == 1 + sum(range(100, 200))
        assert first.period.totals.sales + second.period.totals.sales == 101


async def test_payment_that_took_no_money_is_told_late_and_counted_nowhere(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(18)) as shop:
        shop.provider.strike(Switch.FAIL_BEFORE)
        await pay(shop, card(4_200))
        await shop.works_done()
        await shop.days.close()
        await shop.settle()
        standing = (await shop.days.standing()).day
        assert [late.state for late in standing.late] == ["absent"]
        assert standing.period.totals == TotalsFacts()


async def test_service_wakes_at_the_cut_off(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=FakeClock(SATURDAY.ends_ms - MINUTE_MS)) as shop:
        await pay(shop, cash(1_000))
        log = Log(sink=lambda _line: None, clock=shop.clock)
        async with supervised(log=log, clock=shop.clock) as supervisor:
            supervisor.start("shop days", shop.days.run)
            await shop.clock.advance(2 * MINUTE_MS)
            while shop.days.closed_count == 0:
                await shop.clock.settle()
            supervisor.stop("the test is over")
        assert await days(shop) == ["2026-10-24"]


async def test_quarantined_box_closes_no_day(tmp_path: Path) -> None:
    async with open_shop(tmp_path, clock=clock_at(18)) as shop:
        await pay(shop, cash(1_000))
        shop.quarantine.set("the log lost its end")
        with pytest.raises(Unavailable, match="quarantined"):
            await shop.days.close()
        await until(shop, 40)
        assert await days(shop) == []
