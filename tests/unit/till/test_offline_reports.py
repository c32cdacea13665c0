"""What was accepted offline, and what became of it, stands in the reports of the days in which it happened."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path

from appliance.model.till import Scope
from appliance.till.page import report_text
from appliance.till.records import read_period
from appliance.till.sheet import sheet_of_day
from appliance.wire.till_entries import DayClosedEntry, PeriodFacts, TotalsFacts
from tests.unit.payment.offline import Till, open_till
from tests.unit.payment.shop import CALENDAR


async def period(till: Till, scope: Scope = Scope.SHOP, name: str = "") -> PeriodFacts:
    return await till.shop.ledger.read(lambda connection: read_period(connection, scope, name, "EUR"))


async def close_after(till: Till, hours: int) -> DayClosedEntry:
    till.shop.clock.pass_time(hours * 3_600_000)
    return (await till.shop.days.close()).day


async def test_a_sale_counts_when_the_goods_go_and_its_money_is_told_apart(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        await till.sell(3_000, cash=500)
        found = await period(till, Scope.TERMINAL, "till-1")
        assert (found.totals.sales, found.totals.total) == (1, 3_500)
        assert (found.totals.offline, found.waiting) == (3_000, 3_000)
        assert (await period(till, Scope.DRAWER, "till-1")).waiting == 0
        till.pads.is_bank_down = False
        await till.forward()
        found = await period(till, Scope.TERMINAL, "till-1")
        assert found.totals == TotalsFacts(sales=1, total=3_500, offline=3_000, forwarded=3_000)
        assert found.waiting == 0


async def test_a_withdrawn_card_is_a_reversal_and_waits_no_more(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        await till.reverse((await till.sell(3_000)).key)
        await till.shop.settle()
        found = await period(till)
        assert (found.totals.withdrawn, found.totals.reversed, found.waiting) == (3_000, 3_000, 0)
        assert [(each.kind, each.taken, each.returned) for each in found.tenders] == [("pin_pad", 3_000, 3_000)]


async def test_a_loss_falls_into_the_day_that_learns_of_it_and_names_its_sale(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(3_000)).key
        reference = till.reference()
        (sold,) = await till.shop.rows("SELECT first FROM payments")
        first = await close_after(till, 1)
        assert (first.period.totals.offline, first.period.waiting, first.lost) == (3_000, 3_000, ())
        till.shop.clock.pass_time(
            CALENDAR.day(datetime.date.fromisoformat(first.day)).ends_ms - till.shop.clock.now_ms()
        )
        till.pads.says_no.add(reference)
        till.pads.is_bank_down = False
        await till.forward()
        second = await close_after(till, 1)
        totals = second.period.totals
        assert (totals.sales, totals.lost, totals.losses, second.period.waiting) == (0, 3_000, 1, 0)
        (lost,) = second.lost
        assert (lost.day, lost.amount, lost.intent, lost.reference) == (first.day, 3_000, *sold, reference)
        assert (lost.payment, lost.code) == (uuid.UUID(key).bytes, "insufficient_funds")
        assert second.late_count == 0
        text = report_text(sheet_of_day(second, seq=1), width=80)
        assert f"{first.day} {key} at till-1, entry {lost.intent}" in text
        assert "-30.00" in text
        rows = {row.label: row.amount_minor for row in sheet_of_day(second, seq=1).rows if row.section == "Sales"}
        assert (rows["kept"], rows["kept without them"]) == (0, -3_000)
        assert "kept without them" not in report_text(sheet_of_day(first, seq=1), width=80)
        till.shop.clock.pass_time(24 * 3_600_000)
        await till.sell(1_000, cash=1)
        assert (await close_after(till, 1)).lost == ()


async def test_a_loss_of_the_same_day_names_no_other_day(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        await till.sell(3_000)
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        (lost,) = (await till.shop.days.standing()).day.lost
        assert lost.day is None
