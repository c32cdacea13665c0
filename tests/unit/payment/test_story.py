"""Events say of each entry how the payment stood then: nothing that is to be reversed is told as approved."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.ids import TerminalId
from appliance.model.limits import DAY_MS
from appliance.payment.story import events_after, news
from tests.fakes.provider import Switch
from tests.unit.payment.offline import open_till
from tests.unit.payment.shop import SETTLE_MS, Shop, open_shop
from tests.unit.payment.test_capture import held
from tests.unit.payment.test_linked import lost, pay
from tests.unit.payment.test_refund import refund, sold


async def told(shop: Shop, of: str) -> list[str]:
    """The states of the payment `of`, in the order of its events, which are the same for a till and a person."""
    events, _ = await events_after(shop.ledger, TerminalId("till-1"), 0)
    states: list[str] = [event.state for event in events if event.key == of]
    assert [event["state"] for event in await news(shop.ledger, 0, 100) if event["key"] == of] == states
    return states


@pytest.mark.parametrize("is_held", [False, True])
async def test_outcome_behind_a_durable_reversal_is_never_told_as_standing(tmp_path: Path, is_held: bool) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        of = await held(shop) if is_held else await sold(shop, card=1000)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        states = await told(shop, of)
        assert set(states) == {"being_checked", "reversed"}
        assert states[-1] == "reversed"


async def test_part_given_back_behind_a_durable_reversal_is_being_checked(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        shop.provider.strike(Switch.FAIL_AFTER)
        await refund(shop, of, amount_minor=400)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        states = await told(shop, of)
        assert "partly_refunded" not in states
        assert states[-1] == "reversed"


async def test_approved_stays_approved_where_the_reversal_came_later(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        await shop.works_done()
        assert (await told(shop, of))[:2] == ["being_checked", "approved"]


async def test_refused_refund_is_told_as_the_payment_stood_before(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        shop.provider.strike(Switch.REFUSE)
        await refund(shop, of, amount_minor=100)
        assert (await told(shop, of))[-1] == "approved"
        await refund(shop, of, amount_minor=300)
        shop.provider.strike(Switch.REFUSE)
        await refund(shop, of, amount_minor=100)
        assert (await told(shop, of))[-1] == "partly_refunded"
        assert (await told(shop, of))[3] == "approved", "what came later changes no earlier event"


async def test_refused_reversal_is_told_as_the_payment_stands(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=1000)
        await refund(shop, of, amount_minor=300)
        shop.provider.strike(Switch.REFUSE)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        await shop.works_done()
        assert (await told(shop, of))[-1] == "partly_refunded"


async def test_first_try_that_a_later_one_outlived_is_told_as_standing_no_more(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        await pay(shop, of=first, tender="cash")
        await shop.settle()
        states = await told(shop, first)
        assert "approved" not in states
        assert states[-1] == "reversed"


async def test_first_try_that_stood_before_a_later_one_outlived_it_was_approved_then(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        shop.clock.pass_time(1)  # the resolver looks at the older one first
        second = await lost(shop, of=first)
        await shop.settle()
        assert (await told(shop, second))[-1] == "approved"
        ((wanted,),) = await shop.rows("SELECT seq FROM entries WHERE kind = 'reversal_wanted'")
        events, _ = await events_after(shop.ledger, TerminalId("till-1"), 0)
        approved = [event.seq for event in events if event.key == first and event.state == "approved"]
        assert [seq < wanted for seq in approved] == [True]
        assert (await told(shop, first))[-1] == "reversed"


async def test_a_forward_is_told_as_accepted_offline_until_the_bank_speaks(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        of = (await till.sell(1_000)).key
        await till.shop.forwarder.look()
        till.pads.is_bank_down = False
        till.shop.clock.pass_time(DAY_MS)
        await till.forward()
        offline = ["accepted_offline"] * 4  # accepted, asked, not reached, asked again
        assert await told(till.shop, of) == ["being_checked", *offline, "approved"]


async def test_a_forward_behind_a_durable_reversal_is_never_told_as_standing(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        till.pads.keeps = True
        of = (await till.sell(1_000)).key
        await till.reverse(of)
        await till.shop.resolver.look()
        await till.shop.works_done()
        till.pads.is_bank_down = False
        await till.forward()
        await till.shop.settle()
        states = await told(till.shop, of)
        assert states[:2] == ["being_checked", "accepted_offline"]
        assert set(states[2:]) == {"being_checked", "reversed"}


async def test_a_loss_behind_a_durable_reversal_is_being_checked_until_what_paid_beside_it_went_back(
    tmp_path: Path,
) -> None:
    async with open_till(tmp_path) as till:
        till.pads.keeps = True
        of = (await till.sell(1_000, cash=500)).key
        await till.reverse(of)
        await till.shop.resolver.look()
        await till.shop.works_done()
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        assert (await told(till.shop, of))[-1] == (await till.status(of)).state == "being_checked"
        await till.shop.settle()
        assert (await told(till.shop, of))[-1] == (await till.status(of)).state == "reversed"
