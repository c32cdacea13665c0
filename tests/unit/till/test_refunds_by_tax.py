"""What goes back stands in the reports under the tax it was sold with, as far as anybody said what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.till.sheet import sheet_of_period
from appliance.wire import entries
from appliance.wire.till_entries import PeriodFacts
from tests.fakes.provider import Switch
from tests.unit.payment.shop import SETTLE_MS, Shop, open_shop
from tests.unit.payment.test_refund import refund, sold
from tests.unit.till.acts import report

SALE: dict[str, Any] = {
    "lines": [
        {"sku": "BOOK", "unit_price_minor": 1070, "tax_code": "B", "tax_rate_basis_points": 700},
        {
            "sku": "PEN",
            "unit_price_minor": 119,
            "quantity_thousandths": 2000,
            "tax_code": "A",
            "tax_rate_basis_points": 1900,
        },
        {"sku": "BAG", "unit_price_minor": 20},
    ],
    "taxes": [
        {"tax_code": "A", "rate_basis_points": 1900, "net_minor": 200, "tax_minor": 38},
        {"tax_code": "B", "rate_basis_points": 700, "net_minor": 1000, "tax_minor": 70},
    ],
    "total_minor": 1328,
}
PEN_AND_BAG: dict[str, Any] = {
    "lines": [{"index": 1, "quantity_thousandths": 1000}, {"index": 2, "quantity_thousandths": 1000}]
}


def returned(period: PeriodFacts) -> list[tuple[str, int, int]]:
    return [(tax.tax_code, tax.returned, tax.returned_tax) for tax in period.taxes if tax.returned]


def shown(period: PeriodFacts) -> list[tuple[str, int | None]]:
    rows = sheet_of_period(period, seq=None).rows
    return [(row.label, row.amount_minor) for row in rows if row.section == "Refunds by tax"]


async def x_report(shop: Shop) -> PeriodFacts:
    return (await report(shop, "x")).period


@pytest.mark.parametrize("switch", [Switch.NONE, Switch.FAIL_BEFORE, Switch.FAIL_AFTER])
@pytest.mark.parametrize("tenders", [{"cash": 1328}, {"card": 1328}, {"card": 100, "cash": 1228}])
async def test_refund_by_line_is_split_and_by_amount_is_not(
    tmp_path: Path, tenders: dict[str, int], switch: Switch
) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, **tenders, **SALE)
        shop.provider.strike(switch)
        await refund(shop, of, **PEN_AND_BAG)
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        assert returned(await x_report(shop)) == [("A", 119, 19), ("unstated", 20, 0)]
        assert shown(await x_report(shop)) == [("A 19 %", -119), ("A 19 %: tax", -19), ("unstated", -20)]
        shop.provider.strike(Switch.NONE)
        await refund(shop, of, amount_minor=189)
        await refund(shop, of)
        period = await x_report(shop)
        assert returned(period) == [("A", 119, 19), ("unstated", 20, 0)]
        assert shown(period)[-1] == ("not split", -1189)
        assert period.totals.refunded == 1328


async def test_refused_refund_is_in_no_split(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1328, **SALE)
        shop.provider.strike(Switch.REFUSE)
        await refund(shop, of, **PEN_AND_BAG)
        assert shown(await x_report(shop)) == []


async def test_split_is_of_the_period_in_which_it_went_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, cash=1328, **SALE)
        await report(shop, "z")
        await refund(shop, of, **PEN_AND_BAG)
        period = (await report(shop, "z")).period
        assert [(tax.tax_code, tax.gross, tax.returned) for tax in period.taxes] == [
            ("A", 0, 119),
            ("unstated", 0, 20),
        ]
        assert shown(await x_report(shop)) == []


async def test_cash_that_was_rounded_is_split_before_rounding_and_says_so(tmp_path: Path) -> None:
    async with open_shop(tmp_path, cash_step_minor=5) as shop:
        of = await sold(shop, cash=1330, rounding_minor=2, **SALE)
        given = await refund(shop, of, lines=[{"index": 1, "quantity_thousandths": 1000}])
        assert given.given_minor == 120
        assert shown(await x_report(shop)) == [("A 19 %", -119), ("A 19 %: tax", -19), ("not split", -1)]


async def test_sale_that_states_no_lines_is_refunded_under_no_code(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, cash=500)
        await refund(shop, of, amount_minor=100)
        assert shown(await x_report(shop)) == [("not split", -100)]
        assert entries.UndoEntry(asked=None, payment=b"", currency="EUR", cash=1).taxes == ()
