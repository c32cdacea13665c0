"""Owns the promises of a card stated by the cashier: it holds by itself, goes back the same way, and proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.ledger.entry import decode
from appliance.model.errors import Rejected
from appliance.wire.till_entries import TenderFacts
from provisioning.verify.bodies import read_body
from provisioning.verify.sentences import sentence
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop, rebuilt_equal
from tests.unit.till.acts import report


async def sold(shop: Shop, **tenders: int) -> str:
    key = shop.new_key()
    body = {
        "currency": "EUR",
        "amount_minor": sum(tenders.values()),
        "tenders": [{"kind": kind, "amount_minor": amount} for kind, amount in tenders.items()],
    }
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    return key


async def given(shop: Shop, verb: str, of: str, **part: Any) -> tuple[str, int]:
    key = shop.new_key()
    act = shop.pipeline.refund if verb == "refund" else shop.pipeline.reverse
    await act(shop.request(verb, {"of": of, **part}, key))
    await shop.works_done()
    answer = await shop.pipeline.status(shop.request("status", {"of": key}))
    return answer.state, answer.refunded_minor


BACK = "SELECT card_back, stated_back, cash_back FROM payments"


async def test_it_is_approved_at_once_and_no_provider_is_asked(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card_stated=990)
        assert (await shop.pipeline.status(shop.request("status", {"of": of}))).state == "approved"
        assert shop.provider.asked == []
        await rebuilt_equal(shop)


async def test_money_goes_back_by_card_then_as_stated_then_in_cash(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, cash=300, card=400, card_stated=500)
        assert await given(shop, "refund", of, amount_minor=600) == ("partly_refunded", 600)
        assert await shop.rows(BACK) == [(400, 200, 0)]
        with pytest.raises(Rejected, match="refund_above_left: expected at most 600 minor units"):
            await given(shop, "refund", of, amount_minor=601)
        assert await given(shop, "refund", of, amount_minor=400) == ("partly_refunded", 1000)
        assert await shop.rows(BACK) == [(400, 500, 100)]
        assert await given(shop, "reversal", of) == ("reversed", 1200)
        assert shop.provider.charged_minor() == 0
        await rebuilt_equal(shop)


async def test_a_refund_whose_card_part_was_lost_gives_the_stated_part_once_it_is_found(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card=400, card_stated=500)
        shop.provider.strike(Switch.FAIL_AFTER)
        assert (await given(shop, "refund", of, amount_minor=600))[0] == "being_checked"
        assert await shop.rows(BACK) == [(0, 0, 0)]
        await shop.settle()
        assert await shop.rows(BACK) == [(400, 200, 0)]


async def test_a_declined_card_beside_it_leaves_nothing_to_give_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.REFUSE)
        of = await sold(shop, card=400, card_stated=500)
        with pytest.raises(Rejected, match="payment_took_no_money"):
            await given(shop, "refund", of)


async def test_a_card_number_is_no_reference(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        tender = {"kind": "card_stated", "amount_minor": 990, "source": "4242 4242 4242 4242"}
        body = {"currency": "EUR", "amount_minor": 990, "tenders": [tender]}
        with pytest.raises(Rejected, match="card_number_refused"):
            await shop.pipeline.pay(shop.request("payment", body))


async def test_it_is_stored_and_forwarded_as_cash_is(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        payment = {
            "currency": "EUR",
            "amount_minor": 990,
            "tenders": [{"kind": "card_stated", "amount_minor": 990}],
        }
        items = [{"key": shop.new_key(), "payment": payment}]
        answer = await shop.batch.take(shop.request("batch", {"items": items}))
        assert [result.state for result in answer.results] == ["approved"]


async def test_reports_tell_it_apart_and_the_entry_says_who_says_so(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await sold(shop, card_stated=990)
        await given(shop, "refund", of, amount_minor=90)
        assert (await report(shop, "x")).period.tenders == (TenderFacts(kind="card_stated", taken=990, returned=90),)
        rows = await shop.rows("SELECT entry FROM entries")
        found = [entry for entry in (decode(encoded) for (encoded,) in rows) if entry.kind in ("sale", "refund")]
        said = [sentence(entry, read_body(entry)[0]) for entry in found]
        assert len(said) == 2
        assert all("(stated by cashier)" in text for text in said), said
