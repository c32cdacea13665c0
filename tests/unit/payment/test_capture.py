"""Owns the promises of money that is held: captured once and never above it, or given up; nothing held is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected
from appliance.model.operation import FIRST_PROVIDER, OperationState
from appliance.model.sale import TenderKind
from appliance.payment.operation_records import open_counts
from appliance.payment.providers import Providers, SetUp
from appliance.ports.provider import Authorise
from appliance.wire.answers import PaymentAnswer
from tests.fakes.provider import Switch
from tests.unit.payment.shop import CAPTURE_WINDOW_MS, SETTLE_MS, Shop, open_shop

HELD = 1200


async def held(shop: Shop) -> str:
    """The key of an authorised payment of 10.00 and a tip of 2.00."""
    key = shop.new_key()
    tender = {"kind": "card", "amount_minor": HELD}
    sale = {"currency": "EUR", "amount_minor": 1000, "tip_minor": 200, "tenders": [tender], "capture": "later"}
    await shop.pipeline.pay(shop.request("payment", sale, key))
    await shop.works_done()
    return key


async def capture(shop: Shop, of: str, **body: Any) -> PaymentAnswer:
    await shop.pipeline.capture(shop.request("capture", {"of": of, **body}))
    await shop.works_done()
    return await status(shop, of)


async def status(shop: Shop, of: str) -> PaymentAnswer:
    return await shop.pipeline.status(shop.request("status", {"of": of}))


async def refused(shop: Shop, verb: str, body: dict[str, Any], *, terminal: str = "till-1") -> str:
    ask = {"capture": shop.pipeline.capture, "refund": shop.pipeline.refund}[verb]
    with pytest.raises(Rejected) as refusal:
        await ask(shop.request(verb, body, terminal=terminal))
    return refusal.value.code


async def test_a_held_payment_is_authorised_and_takes_no_money(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        began = shop.clock.now_ms()
        answer = await status(shop, await held(shop))
        assert (answer.state, answer.capture_before_ms) == ("authorised", began + CAPTURE_WINDOW_MS)
        assert (shop.provider.held_minor(), shop.provider.charged_minor()) == (HELD, 0)


async def test_it_is_captured_once_with_the_tip_as_it_is_now(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        taken = await capture(shop, of, amount_minor=1150)
        assert (taken.state, taken.capture_before_ms) == ("approved", None)
        assert (shop.provider.held_minor(), shop.provider.charged_minor()) == (0, 1150)
        assert await refused(shop, "capture", {"of": of}) == "payment_not_held"
        assert await refused(shop, "refund", {"of": of, "amount_minor": 1151}) == "refund_above_left"
        await shop.pipeline.refund(shop.request("refund", {"of": of}))
        await shop.works_done()
        assert shop.provider.charged_minor() == 0


async def test_what_cannot_be_captured_is_refused_and_moves_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        of = await held(shop)
        assert await refused(shop, "capture", {"of": of, "amount_minor": HELD + 1}) == "capture_above_authorisation"
        assert await refused(shop, "capture", {"of": of, "amount_minor": 999}) == "capture_below_total"
        assert await refused(shop, "capture", {"of": of}, terminal="till-2") == "payment_of_another_terminal"
        assert await refused(shop, "capture", {"of": shop.new_key()}) == "payment_unknown"
        assert await refused(shop, "refund", {"of": of}) == "payment_not_captured"
        shop.clock.pass_time(CAPTURE_WINDOW_MS)
        assert await refused(shop, "capture", {"of": of}) == "authorisation_expired"
        assert len(shop.provider.asked) == 1


async def test_a_sale_that_another_till_cancelled_before_it_came_is_not_called_another_tills(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        of = shop.new_key()
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}, terminal="till-2"))
        assert await refused(shop, "capture", {"of": of}) == "payment_not_held"


@pytest.mark.parametrize("verb", ["reversal", "abort"])
async def test_what_is_held_is_given_up_before_it_is_captured(tmp_path: Path, verb: str) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        ask = shop.pipeline.reverse if verb == "reversal" else shop.pipeline.abort
        await ask(shop.request(verb, {"of": of}))
        await shop.works_done()
        assert (await status(shop, of)).state == "reversed"
        assert (shop.provider.held_minor(), shop.provider.charged_minor()) == (0, 0)
        assert await refused(shop, "capture", {"of": of}) == "payment_not_held"


@pytest.mark.parametrize("switch", [Switch.FAIL_BEFORE, Switch.FAIL_AFTER, Switch.NOT_SENT])
async def test_an_unknown_capture_is_read_back_or_begun_anew_and_taken_once(tmp_path: Path, switch: Switch) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.provider.strike(switch)
        assert (await capture(shop, of, amount_minor=1100)).state == "being_checked"
        await shop.settle()
        assert (await status(shop, of)).state == "approved"
        assert shop.provider.charged_minor() == 1100
        keys = [operation.provider_key for operation in shop.provider.asked]
        assert len(keys) == len(set(keys)), "a provider key is sent once"


async def test_a_capture_that_comes_late_is_not_called_failed_by_the_one_after_it(tmp_path: Path) -> None:
    """The first attempt was proven absent, and arrives after all: the second finds it done."""
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.provider.strike(Switch.FAIL_BEFORE)
        await capture(shop, of, amount_minor=1100)
        late = shop.provider.asked[-1]
        shop.provider.execute_late(late)
        await shop.settle()
        assert (await status(shop, of)).state == "approved"
        assert shop.provider.charged_minor() == 1100


async def test_a_refused_capture_leaves_the_money_held(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.provider.strike(Switch.REFUSE)
        answer = await capture(shop, of)
        assert (answer.state, answer.code) == ("authorised", "request_refused")
        assert (await capture(shop, of)).state == "approved"


async def test_a_provider_that_holds_nothing_refuses_a_capture_and_is_not_asked(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        cards = SetUp(tender=TenderKind.CARD, provider=shop.provider, admit=shop.provider.admit)
        shop.operations.providers = Providers({FIRST_PROVIDER: cards})
        answer = await capture(shop, of)
        assert (answer.state, answer.code) == ("authorised", "holds_nothing")
        assert [type(operation) for operation in shop.provider.asked] == [Authorise]


@pytest.mark.parametrize("has_lapsed", [False, True])
async def test_what_is_not_captured_in_time_expires_and_nothing_stays_held(tmp_path: Path, has_lapsed: bool) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.clock.pass_time(CAPTURE_WINDOW_MS - 1)
        await shop.resolver.look()
        assert (await status(shop, of)).state == "authorised"
        if has_lapsed:
            shop.provider.lapse()
        shop.clock.pass_time(1)
        await shop.resolver.look()
        await shop.works_done()
        assert (await status(shop, of)).state == "expired"
        assert (shop.provider.held_minor(), shop.provider.charged_minor()) == (0, 0)
        assert await refused(shop, "capture", {"of": of}) == "authorisation_expired"


async def test_a_clock_that_is_days_ahead_gives_up_nothing_that_is_held(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.clock.step(2 * CAPTURE_WINDOW_MS)
        for _ in range(3):
            await shop.resolver.look()
            await shop.works_done()
            shop.clock.pass_time(10 * 60_000)
        assert (await status(shop, of)).state == "authorised"
        assert shop.provider.held_minor() == 1200
        shop.clock.step(-2 * CAPTURE_WINDOW_MS)
        assert (await capture(shop, of, amount_minor=1100)).state == "approved"


async def test_a_clock_that_was_days_behind_shortens_no_authorisation(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.clock.step(-2 * CAPTURE_WINDOW_MS)
        of = await held(shop)
        shop.clock.step(2 * CAPTURE_WINDOW_MS)
        await shop.resolver.look()
        await shop.works_done()
        assert (await status(shop, of)).state == "authorised"


async def test_what_is_held_is_not_given_up_while_the_provider_cannot_be_read(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.clock.pass_time(CAPTURE_WINDOW_MS)
        shop.provider.is_reading_down = True
        await shop.resolver.look()
        assert (await status(shop, of)).state == "authorised"
        shop.provider.is_reading_down = False
        shop.clock.pass_time(10 * 60_000)
        await shop.resolver.look()
        await shop.works_done()
        assert (await status(shop, of)).state == "expired"


async def test_reversal_asked_for_while_it_is_captured_gives_the_money_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        shop.provider.strike(Switch.FAIL_AFTER)
        await capture(shop, of, amount_minor=1100)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        assert (await status(shop, of)).state == "reversed"
        assert shop.provider.charged_minor() == 0


async def test_reversal_asked_for_while_it_is_reserved_gives_it_up(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        of = await held(shop)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        assert (await status(shop, of)).state == "reversed"
        assert (shop.provider.held_minor(), shop.provider.charged_minor()) == (0, 0)


async def test_only_a_card_alone_is_captured_later(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        tenders = [{"kind": "card", "amount_minor": 500}, {"kind": "cash", "amount_minor": 500}]
        sale = {"currency": "EUR", "amount_minor": 1000, "tenders": tenders, "capture": "later"}
        with pytest.raises(Rejected, match="later_needs_one_card"):
            await shop.pipeline.pay(shop.request("payment", sale))


async def test_operations_without_an_end_are_counted_by_state(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        await held(shop)
        assert await shop.ledger.read(open_counts) == {OperationState.PREPARED: 0, OperationState.UNKNOWN: 1}
        await shop.settle()
        assert await shop.ledger.read(open_counts) == {OperationState.PREPARED: 0, OperationState.UNKNOWN: 0}
