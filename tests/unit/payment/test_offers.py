"""A provider at which customers agree first, beside the card provider: who is asked, what is shown, one end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import TerminalId
from appliance.model.operation import FIRST_PROVIDER
from appliance.payment.shown import CUSTOMER_ASKED
from appliance.payment.story import events_after
from appliance.ports.provider import NotSent, Refund, Refused, Unknown
from tests.fakes.clock import FakeClock
from tests.fakes.offers import FakeOffers
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop


def sale(kind: str = "paypal") -> dict[str, Any]:
    return {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": kind, "amount_minor": 500}]}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def offers(clock: FakeClock) -> FakeOffers:
    return FakeOffers(clock=clock)


@pytest.fixture
async def shop(tmp_path: Path, clock: FakeClock, offers: FakeOffers) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, clock=clock, offers=offers) as opened:
        yield opened


async def begun(shop: Shop) -> str:
    """The key of a sale whose customer is asked."""
    key = shop.new_key()
    answer = await shop.pipeline.pay(shop.request("payment", sale(), key))
    assert answer.state == "being_checked"
    await shop.customer_asked(key)
    return key


async def status(shop: Shop, key: str) -> Any:
    return await shop.pipeline.status(shop.request("status", {"of": key}))


async def test_the_customer_agrees_and_the_money_is_taken_once(shop: Shop, offers: FakeOffers) -> None:
    key = await begun(shop)
    assert (await status(shop, key)).show == "https://pay.test/order_1"
    assert offers.charged_minor() == 0
    offers.agree("order_1")
    await shop.works_done()
    done = await status(shop, key)
    assert (done.state, done.show, offers.charged_minor()) == ("approved", None, 500)
    kinds = await shop.rows("SELECT kind, state, provider, target FROM operations ORDER BY id")
    assert kinds == [("offer", "confirmed", "paypal", None), ("authorise", "confirmed", "paypal", "order_1")]
    assert shop.provider.asked == []


async def test_a_refund_goes_to_who_took_the_money(shop: Shop, offers: FakeOffers) -> None:
    key = await begun(shop)
    offers.agree("order_1")
    await shop.works_done()
    await shop.pipeline.refund(shop.request("refund", {"of": key, "amount_minor": 200}))
    await shop.works_done()
    assert isinstance(offers.asked[-1], Refund)
    assert offers.charged_minor() == 300
    assert shop.provider.asked == []
    (sums,) = (await shop.rows("SELECT sums FROM till_totals"))[0]
    assert b"paypal" in sums
    assert b"card" not in sums


@pytest.mark.parametrize(
    ("made", "state", "code"),
    [
        (NotSent(reason="connection_failed"), "not_charged", "provider_unreachable"),
        (Unknown(reason="connection_lost"), "not_charged", "provider_unreachable"),
        (Refused(code="currency_unsupported", detail="no"), "declined", "currency_unsupported"),
    ],
)
async def test_an_offer_that_nobody_saw_ends_at_once(
    shop: Shop, offers: FakeOffers, made: Refused | NotSent | Unknown, state: str, code: str
) -> None:
    offers.made = made
    key = shop.new_key()
    await shop.pipeline.pay(shop.request("payment", sale(), key))
    await shop.works_done()
    answer = await status(shop, key)
    assert (answer.state, answer.code) == (state, code)
    assert offers.asked == []


async def test_an_abort_ends_the_waiting_and_takes_nothing(shop: Shop, offers: FakeOffers) -> None:
    key = await begun(shop)
    await shop.pipeline.abort(shop.request("abort", {"of": key}))
    await shop.works_done()
    answer = await status(shop, key)
    assert (answer.state, answer.code) == ("declined", "payment_aborted")
    offers.agree("order_1")
    await shop.resolver.look()
    assert offers.charged_minor() == 0


async def test_a_customer_who_agrees_while_the_till_gives_up_is_not_charged(shop: Shop, offers: FakeOffers) -> None:
    key = await begun(shop)
    offers.is_deaf = True  # the provider hears of it too late
    await shop.pipeline.abort(shop.request("abort", {"of": key}))
    offers.agree("order_1")
    await shop.works_done()
    assert (await status(shop, key)).state == "declined"
    assert offers.asked == []


@pytest.mark.parametrize(
    ("switch", "state", "charged_minor"),
    [(Switch.FAIL_BEFORE, "not_charged", 0), (Switch.FAIL_AFTER, "approved", 500)],
)
async def test_a_lost_taking_is_found_out_by_reading(
    shop: Shop, offers: FakeOffers, switch: Switch, state: str, charged_minor: int
) -> None:
    key = await begun(shop)
    offers.strike(switch)
    offers.agree("order_1")
    await shop.works_done()
    await shop.settle()
    assert (await status(shop, key)).state == state
    assert len(offers.asked) == 1
    assert offers.charged_minor() == charged_minor


async def test_the_event_says_that_the_customer_is_asked(shop: Shop, offers: FakeOffers) -> None:
    key = await begun(shop)
    offers.agree("order_1")
    events, _ = await events_after(shop.ledger, TerminalId("till-1"), -1)
    assert (events[1].key, events[1].code, events[1].state) == (key, CUSTOMER_ASKED, "being_checked")


async def test_a_box_without_the_provider_refuses_the_tender_and_leaves_its_payments_open(
    tmp_path: Path, clock: FakeClock, offers: FakeOffers
) -> None:
    async with open_shop(tmp_path, clock=clock, offers=offers) as shop:
        approved = await begun(shop)
        offers.agree("order_1")
        await shop.works_done()
        key = await begun(shop)
        offers.strike(Switch.FAIL_AFTER)
        offers.agree("order_2")
        await shop.works_done()
    async with open_shop(tmp_path, clock=clock) as shop:
        await shop.terminals.load()
        await shop.pair("till-2")
        with pytest.raises(Rejected, match="no provider for paypal"):
            await shop.pipeline.pay(shop.request("payment", sale(), terminal="till-2"))
        await shop.resolver.look()
        assert shop.resolver.strangers == {"paypal": 1}
        standing = await shop.pipeline.status(shop.request("status", {"of": key}, terminal="till-2"))
        assert standing.state == "being_checked"
        with pytest.raises(Unavailable, match="no longer name"):
            await shop.pipeline.refund(shop.request("refund", {"of": approved}, terminal="till-2"))
        assert shop.provider.asked == []
    async with open_shop(tmp_path, clock=clock, offers=offers) as shop:
        await shop.terminals.load()
        await shop.settle()
        assert shop.resolver.strangers == {}
        assert await shop.rows("SELECT state FROM payments") == [("approved",), ("approved",)]


@pytest.mark.parametrize(
    ("customer", "end"), [("agreed", ("approved", 500)), ("left", ("declined", 0)), ("thinks", ("being_checked", 0))]
)
async def test_a_customer_whom_nobody_waits_for_any_more_has_one_end(
    shop: Shop, offers: FakeOffers, customer: str, end: tuple[str, int]
) -> None:
    key = await begun(shop)
    offers.is_waiting_lost = True  # as after a power cut: the log holds the offer's name, and nobody waits
    offers.wake()
    await shop.works_done()
    assert await shop.rows("SELECT state, reference FROM operations") == [("unknown", "order_1")]
    offers.is_time_over = customer == "left"
    if customer == "agreed":
        offers.agree("order_1")
    await shop.resolver.look()
    await shop.works_done()
    assert ((await status(shop, key)).state, offers.charged_minor()) == end


async def test_cards_name_no_provider_in_their_entries(shop: Shop) -> None:
    await shop.pipeline.pay(shop.request("payment", sale("card")))
    await shop.works_done()
    assert await shop.rows("SELECT provider FROM operations") == [(FIRST_PROVIDER,)]
    page = await shop.ledger.entries(after=-1, limit=50, kinds=frozenset({"intent"}))
    assert b"hprovider" not in page.entries[0].body
