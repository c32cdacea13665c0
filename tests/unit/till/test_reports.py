"""X reads and Z ends: a period says what happened in it, adds up, and the next one begins with what was left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from appliance.wire.till_entries import CashFacts, TaxFacts, TenderFacts, TotalsFacts
from tests.unit.payment.shop import open_shop
from tests.unit.till.acts import act, card, cash, pay, report


async def test_x_says_what_happened_and_writes_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await act(shop, "float", 10_000)
        await pay(shop, cash(1_190, 2_000))
        await pay(shop, card(5_000))
        await shop.works_done()
        size = shop.ledger.head.size

        answer = await report(shop, "x")

        assert (answer.seq, answer.receipt, shop.ledger.head.size) == (None, None, size)
        period = answer.period
        assert (period.scope, period.name, period.number, period.until) == ("drawer", "till-1", 1, size - 1)
        assert period.totals == TotalsFacts(sales=2, total=6_190)
        assert period.tenders == (TenderFacts(kind="card", taken=5_000), TenderFacts(kind="cash", taken=1_190))
        assert period.cash == CashFacts(floats=10_000, opening=0, sales=1_190, expected=11_190, left=11_190)


async def test_taxes_are_summed_by_code_and_rate(tmp_path: Path) -> None:
    sale = {
        "currency": "EUR",
        "lines": [
            {"sku": "A", "unit_price_minor": 1_190, "tax_code": "standard", "tax_rate_basis_points": 1_900},
            {"sku": "B", "unit_price_minor": 107, "tax_code": "reduced", "tax_rate_basis_points": 700},
        ],
        "taxes": [
            {"tax_code": "standard", "rate_basis_points": 1_900, "net_minor": 1_000, "tax_minor": 190},
            {"tax_code": "reduced", "rate_basis_points": 700, "net_minor": 100, "tax_minor": 7},
        ],
        "total_minor": 1_297,
        "tenders": [{"kind": "cash", "amount_minor": 1_297}],
    }
    async with open_shop(tmp_path) as shop:
        for _ in range(2):
            await pay(shop, sale)
        assert (await report(shop, "x", "terminal")).period.taxes == (
            TaxFacts(tax_code="reduced", rate_basis_points=700, net=200, tax=14, gross=214),
            TaxFacts(tax_code="standard", rate_basis_points=1_900, net=2_000, tax=380, gross=2_380),
        )


async def test_z_ends_the_period_and_the_next_one_begins_with_what_was_left(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await act(shop, "float", 10_000)
        await pay(shop, cash(2_500))
        await act(shop, "paid_out", 500)
        await act(shop, "count", 11_980)
        z = await report(shop, "z")
        assert z.receipt is not None
        assert z.period.cash == CashFacts(
            floats=10_000,
            opening=0,
            sales=2_500,
            paid_out=500,
            expected=12_000,
            counted=11_980,
            difference=-20,
            left=11_980,
        )
        await pay(shop, cash(20))
        following = (await report(shop, "x")).period
        assert (following.number, following.after) == (2, z.seq)
        assert following.cash == CashFacts(opening=11_980, sales=20, expected=12_000, left=12_000)


async def test_same_z_again_gets_the_first_report_and_an_empty_period_is_not_closed(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await act(shop, "float", 10_000)
        key = shop.new_key()
        first = await report(shop, "z", key=key)
        await pay(shop, cash(100))
        again = await report(shop, "z", key=key)
        assert (again.seq, again.period) == (first.seq, first.period)
        await report(shop, "z")
        with pytest.raises(Rejected, match="period_empty"):
            await report(shop, "z")
        with pytest.raises(Rejected, match="key_reused"):
            await report(shop, "z", "terminal", key=key)


async def test_of_two_closes_at_once_one_ends_the_period(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await act(shop, "float", 10_000)
        answers = await asyncio.gather(*(report(shop, "z") for _ in range(3)), return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, Rejected)]
        assert [refusal.code for refusal in refusals] == ["period_empty"] * 2


async def test_terminal_and_drawer_have_periods_of_their_own(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        for terminal in ("till-1", "till-2"):
            await act(shop, "float", 1_000, drawer="bar", terminal=terminal)
            await pay(shop, cash(700), terminal=terminal)
        mine = await report(shop, "z", "terminal", terminal="till-2")
        assert (mine.period.name, mine.period.totals.total, mine.period.cash) == ("till-2", 700, None)
        ours = await report(shop, "z", terminal="till-2")
        assert (ours.period.name, ours.period.totals.total) == ("bar", 1_400)
        assert ours.period.cash is not None
        assert ours.period.cash.left == 3_400


async def test_money_goes_back_from_the_drawer_of_whoever_gives_it_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        sold = shop.new_key()
        await pay(shop, cash(900), key=sold)
        await shop.pipeline.refund(shop.request("refund", {"of": sold}, terminal="till-2"))
        period = (await report(shop, "x", terminal="till-2")).period
        assert period.totals == TotalsFacts(refunds=1, refunded=900)
        assert period.cash == CashFacts(opening=0, refunds=900, expected=-900, left=-900)
        assert (await report(shop, "x")).period.totals == TotalsFacts(sales=1, total=900)
