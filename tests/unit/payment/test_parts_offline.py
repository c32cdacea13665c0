"""A part of a sale that a PIN pad accepted without the bank: the goods may go, and a loss is told once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.provider import Switch
from tests.unit.payment.offline import Till, open_till
from tests.unit.payment.parts import (
    TOTAL,
    books,
    first_body,
    later_body,
    pay,
    refund,
    reverse,
    stands,
    status,
    taken,
)


async def test_a_part_accepted_offline_completes_its_sale(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(2000, "pin_pad"))
        assert (await status(till.shop, first)).state == "accepted_offline"
        sale = await stands(till.shop, first)
        assert (sale.paid_minor, sale.remaining_minor) == (2000, 3000)
        await pay(till.shop, later_body(first, 3000, "cash"))
        assert (await stands(till.shop, first)).remaining_minor == 0
        period = await books(till.shop)
        assert (period.totals.sales, period.totals.total, period.waiting) == (1, TOTAL, 2000)
        till.pads.is_bank_down = False
        await till.forward()
        period = await books(till.shop)
        assert (period.totals.sales, period.totals.total, period.totals.forwarded) == (1, TOTAL, 2000)
        assert (await stands(till.shop, first)).remaining_minor == 0


async def test_two_parts_at_pads_are_forwarded_each_by_itself(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(2000, "pin_pad"))
        second = await pay(till.shop, later_body(first, 3000, "pin_pad"))
        assert (await till.exposure("till-1")).accepted_minor == TOTAL
        till.pads.says_no.add(till.reference(-1))
        till.pads.is_bank_down = False
        await till.forward()
        states = [(await status(till.shop, key)).state for key in (first, second)]
        assert states == ["approved", "declined_after_handover"]
        assert till.pads.charged_minor() == 2000


async def test_a_part_that_was_lost_may_be_paid_again_and_the_sale_counts_once(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(3000, "cash"))
        await pay(till.shop, later_body(first, 2000, "pin_pad"))
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        assert (await stands(till.shop, first)).remaining_minor == 2000
        await pay(till.shop, later_body(first, 2000, "cash"))
        assert (await stands(till.shop, first)).remaining_minor == 0
        period = await books(till.shop)
        assert (period.totals.sales, period.totals.total, period.totals.lost) == (1, TOTAL, 2000)
        assert taken(period)["cash"] == (5000, 0)


async def test_a_part_that_is_withdrawn_opens_its_sale(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(3000, "cash"))
        second = await pay(till.shop, later_body(first, 2000, "pin_pad"))
        await reverse(till.shop, second)
        await till.shop.settle()
        assert (await stands(till.shop, first)).remaining_minor == 2000
        period = await books(till.shop)
        assert (period.totals.sales, period.totals.withdrawn, period.waiting) == (0, 2000, 0)


@pytest.mark.parametrize("is_bank_down", [True, False])
async def test_a_sale_that_is_given_up_keeps_nothing_of_a_part_accepted_offline(
    tmp_path: Path, is_bank_down: bool
) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(3000, "cash"))
        second = await pay(till.shop, later_body(first, 2000, "pin_pad"))
        await reverse(till.shop, first)
        till.pads.is_bank_down = is_bank_down
        await till.forward()
        await till.shop.settle()
        assert [(await status(till.shop, key)).state for key in (first, second)] == ["reversed", "reversed"]
        assert (till.pads.charged_minor(), till.pads.accepted, till.pads.forwarded) == (0, {}, [])


async def test_a_sale_that_is_given_up_while_a_bank_is_asked_has_one_operation_at_a_time(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(3000, "cash"))
        await pay(till.shop, later_body(first, 2000, "pin_pad"))
        till.pads.is_bank_down = False
        till.pads.strike(Switch.HANG_AFTER)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(till.shop.forwarder.look())
            await till.pads.is_forwarding.wait()
            await till.shop.pipeline.reverse(till.shop.request("reversal", {"of": first}))
            await till.shop.resolver.look()
            open_now = await till.shop.rows("SELECT kind FROM operations WHERE state IN ('prepared', 'unknown')")
            assert open_now == [("forward",)]
            till.pads.let_go()
            await asking
        await till.shop.settle()
        assert till.pads.charged_minor() == 0


async def lose(till: Till) -> None:
    """The bank of the card that was accepted last says no."""
    till.pads.says_no.add(till.reference())
    till.pads.is_bank_down = False
    await till.forward()


async def test_a_sale_whose_part_was_lost_before_it_was_complete_counts_when_it_is_paid_otherwise(
    tmp_path: Path,
) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(2000, "pin_pad"))
        await lose(till)
        assert (await books(till.shop)).incomplete_count == 0, "nothing is kept of it"
        await pay(till.shop, later_body(first, TOTAL, "cash"))
        assert (await stands(till.shop, first)).remaining_minor == 0
        period = await books(till.shop)
        assert (period.totals.sales, period.totals.total, period.incomplete) == (1, TOTAL, ())


async def test_a_sale_that_is_opened_after_a_loss_counts_again_once_it_is_paid(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = await pay(till.shop, first_body(1000, "cash"))
        second = await pay(till.shop, later_body(first, 2000, "cash"))
        await pay(till.shop, later_body(first, 2000, "pin_pad"))
        await lose(till)
        assert (await books(till.shop)).totals.sales == 1
        await reverse(till.shop, second)
        period = await books(till.shop)
        assert (period.totals.sales, [(each.paid, each.remaining) for each in period.incomplete]) == (0, [(1000, 4000)])
        await pay(till.shop, later_body(first, 4000, "cash"))
        period = await books(till.shop)
        assert (period.totals.sales, period.totals.total, period.incomplete) == (1, TOTAL, ())


@pytest.mark.parametrize("is_paid_otherwise", [True, False])
async def test_what_paid_beside_a_lost_card_counts_and_goes_back(tmp_path: Path, is_paid_otherwise: bool) -> None:
    async with open_till(tmp_path) as till:
        tenders = [{"kind": "cash", "amount_minor": 1000}, {"kind": "pin_pad", "amount_minor": 3000}]
        first = await pay(till.shop, {**first_body(4000), "tenders": tenders})
        await lose(till)
        sale = await stands(till.shop, first)
        assert (sale.paid_minor, sale.remaining_minor) == (1000, 4000)
        assert [(each.paid, each.remaining) for each in (await books(till.shop)).incomplete] == [(1000, 4000)]
        if is_paid_otherwise:
            last = await pay(till.shop, later_body(first, 4000, "cash"))
            period = await books(till.shop)
            assert (period.totals.sales, period.totals.total, period.incomplete) == (1, TOTAL, ())
            states = [(await refund(till.shop, key)).state for key in (last, first)]
            assert states == ["refunded", "refunded"]
        else:
            await reverse(till.shop, first)
            await till.shop.settle()
            assert (await status(till.shop, first)).state == "reversed"
        cash = taken(await books(till.shop))["cash"]
        assert cash[0] == cash[1]
