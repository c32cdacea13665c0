"""What is refused before an intent exists: another till's reader, a reader in use, a provider that refuses us."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.ports.provider import Authorise
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.pair("till-2")
        await opened.pair("till-3")
        yield opened
        opened.provider.let_go()


def card(source: str | None, amount_minor: int = 500) -> dict[str, Any]:
    tender = {"kind": "card", "amount_minor": amount_minor, "source": source}
    return {"currency": "EUR", "amount_minor": amount_minor, "tenders": [tender]}


async def test_a_till_reaches_its_own_reader_by_one_word(shop: Shop) -> None:
    await shop.pipeline.pay(shop.request("payment", card("reader")))
    await shop.works_done()
    (asked,) = shop.provider.asked
    assert isinstance(asked, Authorise)
    assert asked.source == "tmr_1"


@pytest.mark.parametrize(("terminal", "source"), [("till-3", "reader"), ("till-3", "tmr_1"), ("till-1", "tmr_2")])
async def test_a_reader_of_another_till_is_refused_before_an_intent(shop: Shop, terminal: str, source: str) -> None:
    size = shop.ledger.head.size
    with pytest.raises(Rejected, match="reader_not_bound"):
        await shop.pipeline.pay(shop.request("payment", card(source), terminal=terminal))
    assert shop.ledger.head.size == size
    assert shop.provider.asked == []


async def test_a_second_payment_on_a_reader_is_refused_before_an_intent_and_a_retry_of_the_first_is_not(
    shop: Shop,
) -> None:
    shop.provider.strike(Switch.HANG_BEFORE)
    first = shop.request("payment", card("reader"))
    assert (await shop.pipeline.pay(first)).state == "being_checked"
    size = shop.ledger.head.size
    with pytest.raises(Unavailable, match="reader_busy"):
        await shop.pipeline.pay(shop.request("payment", card("reader"), terminal="till-2"))
    assert shop.ledger.head.size == size
    again = shop.request("payment", card("reader"), first.claims.key)
    assert (await shop.pipeline.pay(again)).state == "being_checked"
    assert len(shop.provider.asked) == 1


async def test_a_recorded_payment_is_told_also_while_another_one_is_on_its_reader(shop: Shop) -> None:
    first = shop.request("payment", card("reader"))
    await shop.pipeline.pay(first)
    await shop.works_done()
    shop.provider.strike(Switch.HANG_BEFORE)
    await shop.pipeline.pay(shop.request("payment", card("reader")))
    again = shop.request("payment", card("reader"), first.claims.key)
    assert (await shop.pipeline.pay(again)).state == "approved"


async def test_a_reader_is_free_again_when_its_payment_ended(shop: Shop) -> None:
    for _ in range(2):
        await shop.pipeline.pay(shop.request("payment", card("reader")))
        await shop.works_done()
    assert len(shop.provider.asked) == 2


async def test_a_reader_is_free_again_when_its_sale_was_refused(shop: Shop) -> None:
    first = shop.request("payment", card("reader"))
    await shop.pipeline.pay(first)
    await shop.works_done()
    other = shop.request("payment", card("reader", 600), first.claims.key)
    with pytest.raises(Rejected, match="key_reused"):
        await shop.pipeline.pay(other)
    await shop.pipeline.pay(shop.request("payment", card("reader")))
    await shop.works_done()
    assert len(shop.provider.asked) == 2


@pytest.mark.parametrize("verb", ["abort", "reversal"])
async def test_a_till_that_aborts_is_no_longer_waiting_for_its_customer(shop: Shop, verb: str) -> None:
    shop.provider.strike(Switch.HANG_BEFORE)
    paid = shop.request("payment", card("reader"))
    await shop.pipeline.pay(paid)
    key = paid.claims.key
    body = {"of": key} | ({"reason": ""} if verb == "reversal" else {})
    undo = shop.pipeline.abort if verb == "abort" else shop.pipeline.reverse
    assert (await undo(shop.request(verb, body))).state == "being_checked"
    assert shop.provider.given_up == [f"{key}/0"]


async def test_a_key_of_another_account_begins_no_card_payment_and_cash_sells(shop: Shop) -> None:
    before = shop.request("payment", card("reader"))
    await shop.pipeline.pay(before)
    await shop.works_done()
    shop.provider.is_key_wrong = True
    size = shop.ledger.head.size
    with pytest.raises(Unavailable, match="provider_credentials_wrong"):
        await shop.pipeline.pay(shop.request("payment", card("reader")))
    assert shop.ledger.head.size == size
    again = shop.request("payment", card("reader"), before.claims.key)
    assert (await shop.pipeline.pay(again)).state == "approved"
    cash = {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": "cash", "amount_minor": 500}]}
    assert (await shop.pipeline.pay(shop.request("payment", cash))).state == "approved"


async def test_another_card_for_the_reader_that_waits_frees_it_and_comes_again(shop: Shop) -> None:
    shop.provider.strike(Switch.HANG_BEFORE)
    first = shop.request("payment", card("reader"))
    await shop.pipeline.pay(first)
    again = {**card("reader"), "retry_of": [str(first.claims.key)]}
    with pytest.raises(Unavailable, match="reader_busy"):
        await shop.pipeline.pay(shop.request("payment", card("reader")))
    assert shop.provider.given_up == []
    key = shop.new_key()
    with pytest.raises(Unavailable, match="reader_busy"):
        await shop.pipeline.pay(shop.request("payment", again, key))
    assert shop.provider.given_up == [f"{first.claims.key}/0"]
    shop.provider.let_go()
    await shop.works_done()
    await shop.pipeline.pay(shop.request("payment", again, key))
    await shop.settle()
    status = await shop.pipeline.status(shop.request("status", {"of": key}))
    assert status.state == "approved"
