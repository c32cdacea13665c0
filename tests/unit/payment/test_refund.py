"""Owns the promises of refunds in parts: never above what is left, once each, and one result for each key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected
from appliance.wire.answers import PaymentAnswer
from tests.fakes.provider import Switch
from tests.unit.payment.shop import SETTLE_MS, Shop, open_shop

LINES: dict[str, Any] = {
    "currency": "EUR",
    "lines": [
        {"sku": "COFFEE", "unit_price_minor": 333, "quantity_thousandths": 3000},
        {"sku": "CUP", "unit_price_minor": 500},
    ],
    "total_minor": 1499,
}


async def sold(shop: Shop, *, cash: int = 0, card: int = 0, **sale: Any) -> str:
    """The key of an approved payment."""
    key = shop.new_key()
    tenders = [{"kind": kind, "amount_minor": amount} for kind, amount in (("cash", cash), ("card", card)) if amount]
    body = {"currency": "EUR", "tenders": tenders, **(sale or {"amount_minor": cash + card})}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    return key


async def refund(shop: Shop, of: str, key: str | None = None, **part: Any) -> PaymentAnswer:
    """The final answer."""
    key = key or shop.new_key()
    await shop.pipeline.refund(shop.request("refund", {"of": of, **part}, key))
    await shop.works_done()
    return await status(shop, key)


async def status(shop: Shop, key: str) -> PaymentAnswer:
    return await shop.pipeline.status(shop.request("status", {"of": key}))


async def test_a_card_payment_is_given_back_in_parts_until_nothing_is_left(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        first_key = shop.new_key()
        first = await refund(shop, of, first_key, amount_minor=300)
        assert (first.state, first.given_minor, first.refunded_minor) == ("partly_refunded", 300, 300)
        with pytest.raises(Rejected, match="refund_above_left: expected at most 700 minor units"):
            await refund(shop, of, amount_minor=701)
        second = await refund(shop, of, amount_minor=650)
        assert (second.state, second.given_minor, second.refunded_minor) == ("partly_refunded", 650, 950)
        last = await refund(shop, of)
        assert (last.state, last.given_minor, last.refunded_minor) == ("refunded", 50, 1000)
        with pytest.raises(Rejected, match="already_undone"):
            await refund(shop, of, amount_minor=1)
        assert shop.provider.charged_minor() == 0
        again = await status(shop, first_key)
        assert (again.state, again.given_minor, again.seq) == ("partly_refunded", 300, first.seq), (
            "one result for a key"
        )
        whole = await status(shop, of)
        assert (whole.state, whole.refunded_minor, whole.seq) == ("refunded", 1000, last.seq)


async def test_lines_go_back_once_and_are_worth_what_they_cost(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000, cash=499, **LINES)
        coffee = {"index": 0, "quantity_thousandths": 1000}
        assert (await refund(shop, of, lines=[coffee])).given_minor == 333
        with pytest.raises(Rejected, match="line 0: expected at most 2000 thousandths"):
            await refund(shop, of, lines=[{"index": 0, "quantity_thousandths": 2001}])
        both = await refund(
            shop, of, lines=[{"index": 0, "quantity_thousandths": 2000}, {"index": 1, "quantity_thousandths": 1000}]
        )
        assert (both.state, both.given_minor, both.refunded_minor) == ("refunded", 1166, 1499)
        cash, card = (await shop.rows("SELECT cash_back, card_back FROM payments"))[0]
        assert (cash, card) == (499, 1000)


async def test_a_line_refund_above_what_an_amount_left_is_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, cash=1499, **LINES)
        await refund(shop, of, amount_minor=1200)
        with pytest.raises(Rejected, match="refund_above_left: expected at most 299 minor units"):
            await refund(shop, of, lines=[{"index": 1, "quantity_thousandths": 1000}])
        with pytest.raises(Rejected, match="amount_and_lines"):
            await refund(shop, of, amount_minor=1, lines=[{"index": 1, "quantity_thousandths": 1000}])


async def test_two_terminals_never_give_back_more_than_what_is_left(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        of = await sold(shop, cash=1000)

        async def one(terminal: str, amount: int) -> str:
            body = {"of": of, "amount_minor": amount}
            try:
                await shop.pipeline.refund(shop.request("refund", body, terminal=terminal))
            except Rejected as refusal:
                return refusal.code
            return "given"

        async with asyncio.TaskGroup() as group:
            tills = [group.create_task(one(f"till-{1 + number % 2}", 400)) for number in range(4)]
        assert sorted(task.result() for task in tills) == ["given", "given", "refund_above_left", "refund_above_left"]
        assert await shop.rows("SELECT cash_back FROM payments") == [(800,)]


async def test_a_refund_that_is_being_checked_holds_its_payment(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        shop.provider.strike(Switch.FAIL_AFTER)
        key = shop.new_key()
        open_refund = await refund(shop, of, key, amount_minor=600)
        assert (open_refund.state, open_refund.given_minor) == ("being_checked", 0)
        with pytest.raises(Rejected, match="payment_open"):
            await refund(shop, of, amount_minor=400)
        await shop.settle()
        found = await status(shop, key)
        assert (found.state, found.given_minor) == ("partly_refunded", 600)
        assert (await refund(shop, of)).given_minor == 400
        assert shop.provider.charged_minor() == 0


async def test_a_part_proven_absent_begins_anew_with_the_same_amount(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        shop.provider.strike(Switch.FAIL_BEFORE)
        key = shop.new_key()
        assert (await refund(shop, of, key, amount_minor=600)).state == "being_checked"
        await shop.settle()
        assert (await status(shop, key)).given_minor == 600
        assert shop.provider.charged_minor() == 400
        keys = [operation.provider_key for operation in shop.provider.asked]
        assert len(keys) == len(set(keys)) == 3, "a provider key is sent once"


async def test_a_part_that_the_provider_refuses_leaves_the_payment_as_it_was(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        first = await refund(shop, of, amount_minor=300)
        shop.provider.strike(Switch.REFUSE)
        key = shop.new_key()
        refused = await refund(shop, of, key, amount_minor=200)
        assert (refused.state, refused.given_minor, refused.refunded_minor) == ("partly_refunded", 0, 300)
        assert refused.code == "request_refused"
        assert (await refund(shop, of, amount_minor=700)).state == "refunded"
        assert first.state == "partly_refunded"
        assert (await status(shop, key)).given_minor == 0


async def test_reversal_of_a_partly_refunded_payment_gives_the_rest_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000, cash=200)
        await refund(shop, of, amount_minor=300)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        await shop.works_done()
        ended = await status(shop, of)
        assert (ended.state, ended.refunded_minor) == ("reversed", 1200)
        assert shop.provider.charged_minor() == 0


async def test_reversal_while_a_part_is_being_checked_gives_the_rest_back_afterwards(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000, cash=200)
        shop.provider.strike(Switch.FAIL_AFTER)
        await refund(shop, of, amount_minor=1000)
        with pytest.raises(Rejected, match="payment_complete"):
            await shop.pipeline.abort(shop.request("abort", {"of": of}))
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        with pytest.raises(Rejected, match="already_undone"):
            await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        assert (await status(shop, of)).state == "being_checked"
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        ended = await status(shop, of)
        assert (ended.state, ended.refunded_minor) == ("reversed", 1200)
        assert await shop.rows("SELECT cash_back, card_back FROM payments") == [(200, 1000)]


async def test_cash_in_steps_goes_back_in_steps(tmp_path: Path) -> None:
    async with open_shop(tmp_path, cash_step_minor=5) as shop:
        body = {**LINES, "total_minor": 1499, "rounding_minor": 1}
        of = await sold(shop, cash=1500, **body)
        assert (await refund(shop, of, lines=[{"index": 0, "quantity_thousandths": 1000}])).given_minor == 335
        with pytest.raises(Rejected, match="refund_too_small"):
            await refund(shop, of, amount_minor=2)
        assert (await refund(shop, of)).given_minor == 1165
