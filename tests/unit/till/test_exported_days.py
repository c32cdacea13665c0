"""The table `days` of an auditor's file says what the shop's own report says of the same log."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from appliance.ledger.entry import Entry, decode
from appliance.wire import entries
from appliance.wire.till_entries import PeriodFacts, TotalsFacts
from provisioning.cli import main
from provisioning.exports.days import Days
from tests.unit.payment.offline import Till, open_till
from tests.unit.payment.parts import books, first_body, later_body, pay, refund, reverse
from tests.unit.till.acts import cash


def test_days_of_an_auditor_are_those_of_the_report(tmp_path: Path) -> None:
    ledger, file = tmp_path / "ledger", tmp_path / "auditor.sqlite"
    period = asyncio.run(_a_day_with_everything(ledger))
    assert main(["export", "sqlite", "--dir", str(ledger), "-o", str(file)]) == 0
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        (day,) = map(dict, connection.execute("SELECT * FROM days").fetchall())
        approved = connection.execute("SELECT state, approved FROM sales WHERE state LIKE '%handover'").fetchall()
    totals = period.totals
    assert TotalsFacts(
        sales=4, total=13_500, refunds=1, refunded=500, reversals=1, reversed=3_000, lost=1_500, parts_returned=2_000
    ) == TotalsFacts(
        sales=totals.sales,
        total=totals.total,
        refunds=totals.refunds,
        refunded=totals.refunded,
        reversals=totals.reversals,
        reversed=totals.reversed,
        lost=totals.lost,
        parts_returned=totals.parts_returned,
    )
    assert (day.pop("day"), day.pop("currency")) == ("2026-09-21", "EUR")
    taken = {name: day.pop(name) for name in ("cash_minor", "card_minor", "card_stated_minor", "voucher_minor")}
    assert day == {name: getattr(totals, name.removesuffix("_minor")) for name in day}
    assert sum(taken.values()) == sum(each.taken for each in period.tenders)
    assert [tuple(row) for row in approved] == [("declined_after_handover", 1)]


def test_an_end_whose_beginning_was_pruned_is_left_out_and_counted(tmp_path: Path) -> None:
    with closing(Days()) as days:
        for entry in asyncio.run(_entries_of_a_card(tmp_path)):
            if entry.kind != entries.INTENT:
                days.add(entry, None)
        assert (days.left_out, [row["sales"] for row in days.rows()]) == (1, [1])


async def _a_day_with_everything(ledger: Path) -> PeriodFacts:
    """A withdrawn card, a lost one, a refund, a sale whose parts cover it, one given up and one that goes on."""
    async with open_till(ledger) as till:
        await till.reverse((await till.sell(3_000)).key)
        await till.sell(1_500)
        await till.shop.settle()
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        await refund(till.shop, await pay(till.shop, cash(4_000)), amount_minor=500)
        first = await pay(till.shop, first_body(2_000, "cash"))
        await pay(till.shop, later_body(first, 3_000, "cash"))
        await reverse(till.shop, await pay(till.shop, first_body(2_000, "cash")))
        await pay(till.shop, first_body(1_000, "cash"))
        return await books(till.shop)


async def _entries_of_a_card(ledger: Path) -> list[Entry]:
    async with open_till(ledger) as till:
        await till.sell(1_500)
        await pay(till.shop, cash(4_000))
        return await _entries(till)


async def _entries(till: Till) -> list[Entry]:
    return [decode(row[0]) for row in await till.shop.rows("SELECT entry FROM entries ORDER BY seq")]
