"""Cards accepted without their bank: within limits, forwarded in order, and honest about what became of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.model.errors import Rejected
from appliance.model.limits import HOUR_MS
from appliance.model.offline import Exposure, OfflineLimits
from appliance.ports.provider import Authorise, Forward
from tests.fakes.forwards import FakeForwards
from tests.fakes.provider import Switch
from tests.fakes.read_first import FakeReadFirst
from tests.unit.payment import offline
from tests.unit.payment.offline import LIMITS, open_till


@pytest.fixture(autouse=True, params=[FakeForwards, FakeReadFirst])
def pads_are(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds at both kinds of device."""
    monkeypatch.setattr(offline, "PADS_ARE", request.param)


async def test_a_card_is_accepted_offline_and_its_answer_says_what_hangs_on_banks(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        answer = await till.sell(4_000)
        assert (answer.state, answer.code) == ("accepted_offline", None)
        assert answer.offline is not None
        assert (answer.offline.terminal_minor, answer.offline.terminal_count) == (4_000, 1)
        assert (answer.offline.box_minor, answer.offline.box_count, answer.offline.limit) == (4_000, 1, None)
        assert answer.receipt is not None


async def test_what_was_accepted_is_forwarded_in_order_once_the_bank_can_be_asked(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        sold = [await till.sell(minor) for minor in (1_000, 1_500, 2_000)]
        order = list(till.pads.accepted)
        till.pads.is_bank_down = False
        await till.forward()
        assert till.pads.forwarded == order
        assert [(await till.status(each.key)).state for each in sold] == ["approved"] * 3
        assert till.pads.charged_minor() == 4_500
        assert await till.exposure() == Exposure()
        keys = [each.provider_key for each in till.pads.asked]
        assert len(set(keys)) == len(keys) == 6


async def test_a_bank_that_says_no_afterwards_is_a_loss_and_no_decline_before_the_goods_were_gone(
    tmp_path: Path,
) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(3_000)).key
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        answer = await till.status(key)
        assert (answer.state, answer.code) == ("declined_after_handover", "insufficient_funds")
        assert till.pads.charged_minor() == 0
        assert await till.exposure() == Exposure()
        with pytest.raises(Rejected) as refused:
            await till.shop.pipeline.refund(till.shop.request("refund", {"of": key}))
        assert refused.value.code == "payment_took_no_money"
        await till.reverse(key)
        assert (await till.status(key)).state == "declined_after_handover"


@pytest.mark.parametrize(
    ("sales", "limit", "left"),
    [
        ([("till-1", 5_001)], "sale", 5_000),
        ([("till-1", 4_500), ("till-1", 3_501)], "terminal", 3_500),
        ([("till-1", 4_500), ("till-2", 4_500), ("till-2", 1_001)], "box", 1_000),
    ],
)
async def test_a_limit_lets_the_sale_go_to_its_bank_only_and_says_which_and_what_is_left(
    tmp_path: Path, sales: list[tuple[str, int]], limit: str, left: int
) -> None:
    async with open_till(tmp_path) as till:
        await till.shop.pair("till-2")
        answers = [await till.sell(minor, terminal=terminal) for terminal, minor in sales]
        assert [each.state for each in answers[:-1]] == ["accepted_offline"] * (len(sales) - 1)
        last = answers[-1]
        assert (last.state, last.code) == ("declined", "offline_limit_exceeded")
        assert last.offline is not None
        assert (last.offline.limit, last.offline.left_minor) == (limit, left)
        till.pads.is_bank_down = False
        assert (await till.sell(sales[-1][1], terminal=sales[-1][0])).state == "approved"


async def test_what_is_left_by_a_limit_is_taken_to_the_last_cent(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        assert [(await till.sell(minor)).state for minor in (5_000, 3_000)] == ["accepted_offline"] * 2
        assert (await till.exposure("till-1")).exposed_minor == LIMITS.terminal_minor_max


async def test_once_the_oldest_waits_too_long_nothing_more_is_accepted(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        await till.sell(1_000)
        till.shop.clock.pass_time(LIMITS.age_hours_max * HOUR_MS - 1)
        assert (await till.sell(1_000)).state == "accepted_offline"
        till.shop.clock.pass_time(1)
        answer = await till.sell(1_000)
        assert answer.code == "offline_limit_exceeded"
        assert answer.offline is not None
        assert (answer.offline.limit, answer.offline.left_minor) == ("age", 0)


@pytest.mark.parametrize("limits", [OfflineLimits(), OfflineLimits(sale_minor_max=9, terminal_minor_max=9)])
async def test_a_limit_of_nothing_accepts_nothing(tmp_path: Path, limits: OfflineLimits) -> None:
    async with open_till(tmp_path, limits) as till:
        answer = await till.sell(5)
        assert (answer.state, answer.code) == ("declined", "offline_limit_exceeded")


async def test_two_tills_racing_for_the_last_euro_do_not_both_have_it(tmp_path: Path) -> None:
    """The intent reserves the limit: how long the card is read does not matter."""
    limits = OfflineLimits(sale_minor_max=100, terminal_minor_max=100, box_minor_max=100, age_hours_max=24)
    async with open_till(tmp_path, limits) as till:
        await till.shop.pair("till-2")
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(till.sell(100, terminal=terminal)) for terminal in ("till-1", "till-2")]
        assert sorted(each.result().state for each in both) == ["accepted_offline", "declined"]
        assert sum(each.may_accept_offline for each in till.pads.asked if isinstance(each, Authorise)) == 1


async def test_a_reservation_ends_with_a_bank_that_was_asked_after_all(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        till.pads.is_bank_down = False
        for _ in range(4):
            assert (await till.sell(5_000)).state == "approved"
        assert await till.exposure() == Exposure()


async def test_an_answer_that_is_lost_reserves_its_limit_until_it_is_known(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        till.pads.strike(Switch.FAIL_AFTER)
        key = (await till.sell(4_000)).key
        assert (await till.status(key)).state == "being_checked"
        assert (await till.exposure()).reserved_minor == 4_000
        await till.shop.settle()
        assert (await till.status(key)).state == "accepted_offline"
        assert await till.exposure("till-1") == Exposure(accepted_minor=4_000, accepted_count=1)


async def test_a_refund_waits_for_the_bank(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000)).key
        with pytest.raises(Rejected) as refused:
            await till.shop.pipeline.refund(till.shop.request("refund", {"of": key}))
        assert refused.value.code == "payment_not_confirmed"
        with pytest.raises(Rejected) as complete:
            await till.shop.pipeline.abort(till.shop.request("abort", {"of": key}))
        assert complete.value.code == "payment_complete"
        till.pads.is_bank_down = False
        await till.forward()
        await till.shop.pipeline.refund(till.shop.request("refund", {"of": key}))
        await till.shop.works_done()
        assert (await till.status(key)).state == "refunded"
        assert till.pads.charged_minor() == 0


async def test_a_reversal_before_the_bank_was_asked_sees_that_it_never_is(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000, cash=500)).key
        await till.reverse(key)
        assert (await till.status(key)).state == "being_checked"
        await till.shop.settle()
        answer = await till.status(key)
        assert (answer.state, answer.refunded_minor) == ("reversed", 2_500)
        till.pads.is_bank_down = False
        await till.forward()
        assert till.pads.forwarded == []
        assert await till.exposure() == Exposure()


@pytest.mark.parametrize("says_no", [False, True])
async def test_a_reversal_of_what_the_device_cannot_forget_follows_its_bank(tmp_path: Path, says_no: bool) -> None:
    async with open_till(tmp_path) as till:
        till.pads.keeps = True
        key = (await till.sell(2_000)).key
        if says_no:
            till.pads.says_no.add(till.reference())
        await till.reverse(key)
        await till.shop.resolver.look()
        await till.shop.works_done()
        await till.shop.resolver.look()
        assert (await till.status(key)).state == "being_checked"
        assert (await till.exposure()).accepted_minor == 2_000
        till.pads.is_bank_down = False
        await till.forward()
        await till.shop.settle()
        assert (await till.status(key)).state == ("declined_after_handover" if says_no else "reversed")
        assert till.pads.charged_minor() == 0
        assert sum(isinstance(each, Forward) for each in till.pads.asked) == 1


async def test_the_cash_beside_a_card_that_was_lost_can_still_be_given_back(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000, cash=500)).key
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        await till.reverse(key)
        answer = await till.status(key)
        assert (answer.state, answer.refunded_minor) == ("reversed", 500)


async def test_a_queue_whose_bank_is_away_rests_and_nothing_overtakes_its_head(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        await till.sell(1_000)
        await till.sell(1_000)
        asked = len(till.pads.asked)
        for _ in range(20):
            await till.shop.forwarder.look()
        assert len(till.pads.asked) == asked + 1
        rows = await till.shop.rows("SELECT state, count(*) FROM payments GROUP BY state")
        assert rows == [("accepted_offline", 2)]
        for _ in range(3):
            till.shop.clock.pass_time(HOUR_MS)
            await till.shop.forwarder.look()
        heads = {each.of for each in till.pads.asked if isinstance(each, Forward)}
        assert heads == {till.reference(0)}
        till.pads.is_bank_down = False
        till.shop.clock.pass_time(HOUR_MS)
        await till.forward()
        assert await till.exposure() == Exposure()


@pytest.mark.parametrize("switch", [Switch.FAIL_BEFORE, Switch.FAIL_AFTER])
async def test_a_forward_whose_answer_is_lost_belongs_to_the_resolver_and_charges_once(
    tmp_path: Path, switch: Switch
) -> None:
    async with open_till(tmp_path) as till:
        keys = [(await till.sell(minor)).key for minor in (1_000, 2_000)]
        till.pads.is_bank_down = False
        till.pads.strike(switch)
        await till.shop.forwarder.look()
        assert (await till.status(keys[0])).state == "being_checked"
        till.shop.clock.pass_time(HOUR_MS)
        await till.forward()
        assert (await till.status(keys[1])).state == "approved"
        await till.shop.settle()
        till.shop.clock.pass_time(HOUR_MS)
        await till.forward()
        till.shop.clock.pass_time(HOUR_MS)
        await till.forward()
        assert (await till.status(keys[0])).state == "approved"
        assert till.pads.charged_minor() == 3_000


async def test_a_refusal_of_the_request_is_no_banks_word(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        keys = [(await till.sell(minor)).key for minor in (1_000, 2_000)]
        till.pads.is_bank_down = False
        till.pads.strike(Switch.REFUSE)
        await till.shop.forwarder.look()
        assert (await till.status(keys[0])).state == "accepted_offline"
        for _ in range(4):
            till.shop.clock.pass_time(HOUR_MS)
            await till.forward()
        assert [(await till.status(key)).state for key in keys] == ["approved", "approved"]


async def test_a_box_that_does_not_trust_its_log_forwards_nothing(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        await till.sell(1_000)
        till.pads.is_bank_down = False
        till.shop.quarantine.set("a test")
        assert not await till.shop.forwarder.look()
        assert till.pads.forwarded == []


async def test_another_tender_is_refused_once_the_card_was_accepted_offline(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(1_000)).key
        cash = {"currency": "EUR", "amount_minor": 1_000, "tenders": [{"kind": "cash", "amount_minor": 1_000}]}
        with pytest.raises(Rejected) as refused:
            await till.shop.pipeline.pay(till.shop.request("payment", {**cash, "retry_of": [key]}))
        assert refused.value.code == "retry_not_needed"
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        paid = await till.shop.pipeline.pay(till.shop.request("payment", {**cash, "retry_of": [key]}))
        assert paid.state == "approved"


async def test_a_card_accepted_offline_reverses_the_try_before_it(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        till.pads.strike(Switch.FAIL_AFTER)
        first = (await till.sell(1_000)).key
        second = (await till.sell(1_000, retry_of=[first])).key
        await till.shop.settle()
        assert [(await till.status(key)).state for key in (first, second)] == ["reversed", "accepted_offline"]
        assert (await till.exposure()).exposed_minor == 1_000


async def test_screening_sees_what_hangs_on_banks_and_this_card(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        till.shop.screener.exposed_minor = 49_000
        await till.sell(1_000)
        await till.sell(1_001)
        cash = {"currency": "EUR", "amount_minor": 5_000, "tenders": [{"kind": "cash", "amount_minor": 5_000}]}
        await till.shop.pipeline.pay(till.shop.request("payment", cash))
        kinds = "kind IN ('intent', 'sale')"
        found = await till.shop.rows(f"SELECT entry FROM entries WHERE {kinds} ORDER BY seq")
        bodies: list[Any] = [cbor.decode(decode(entry).body, size_max=ENTRY_BYTES_MAX) for (entry,) in found]
        reasons = [body["screen"].get("reasons", []) for body in bodies if "screen" in body]
        assert reasons == [[], [{"rule": "offline_exposure", "seen": 50_001, "limit": 50_000}], []]
