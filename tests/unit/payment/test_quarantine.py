"""What a box that doubts its own log still does: it ends what it began, and begins nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.errors import Unavailable
from tests.fakes.provider import Switch
from tests.unit.payment.shop import open_shop

CASH = {"currency": "EUR", "amount_minor": 250, "tenders": [{"kind": "cash", "amount_minor": 250}]}
CARD = {"currency": "EUR", "amount_minor": 990, "tenders": [{"kind": "card", "amount_minor": 990}]}


async def test_nothing_new_moves_in_quarantine(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "ledger") as shop:
        cash, card = shop.new_key(), shop.new_key()
        await shop.pipeline.pay(shop.request("payment", CASH, cash))
        await shop.pipeline.pay(shop.request("payment", CARD, card))
        await shop.settle()
        shop.quarantine.set("a test said so")
        size = shop.ledger.head.size
        pipeline = shop.pipeline
        for verb, ask, body in (
            ("payment", pipeline.pay, CASH),
            ("payment", pipeline.pay, CARD),
            ("refund", pipeline.refund, {"of": cash}),
            ("refund", pipeline.refund, {"of": card}),
            ("reversal", pipeline.reverse, {"of": card}),
            ("reversal", pipeline.reverse, {"of": shop.new_key()}),
            ("abort", pipeline.abort, {"of": shop.new_key()}),
            ("batch", shop.batch.take, {"items": [{"key": shop.new_key(), "payment": CASH}]}),
        ):
            with pytest.raises(Unavailable, match="quarantined"):
                await ask(shop.request(verb, body))
        assert shop.ledger.head.size == size
        assert shop.provider.charged_minor() == 990


async def test_what_was_begun_is_brought_to_its_end_in_quarantine(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "ledger") as shop:
        lost, unwanted = shop.new_key(), shop.new_key()
        shop.provider.strike(Switch.FAIL_AFTER, 2)
        await shop.pipeline.pay(shop.request("payment", CARD, lost))
        await shop.pipeline.pay(shop.request("payment", CARD, unwanted))
        await shop.works_done()
        await shop.pipeline.reverse(shop.request("reversal", {"of": unwanted}))
        shop.quarantine.set("a test said so")
        await shop.settle()
        states = {
            key: (await shop.pipeline.status(shop.request("status", {"of": key}))).state for key in (lost, unwanted)
        }
        assert states == {lost: "approved", unwanted: "reversed"}
        assert shop.provider.charged_minor() == 990


async def test_refund_that_was_taken_is_told_in_quarantine(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "ledger") as shop:
        sold, refund = shop.new_key(), shop.new_key()
        await shop.pipeline.pay(shop.request("payment", CASH, sold))
        first = await shop.pipeline.refund(shop.request("refund", {"of": sold}, refund))
        shop.quarantine.set("a test said so")
        again = await shop.pipeline.refund(shop.request("refund", {"of": sold}, refund))
        assert (again.state, again.seq) == ("refunded", first.seq)
