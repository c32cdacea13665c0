"""Owns the promise that a sale counts when its card is captured, with the tip it was captured with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.model.till import What, labelled
from appliance.till.tally import decode_sums
from tests.unit.payment.shop import Shop, open_shop


async def held(shop: Shop) -> str:
    key = shop.new_key()
    tender = {"kind": "card", "amount_minor": 1200}
    sale = {"currency": "EUR", "amount_minor": 1000, "tip_minor": 200, "tenders": [tender], "capture": "later"}
    await shop.pipeline.pay(shop.request("payment", sale, key))
    await shop.works_done()
    return key


async def totals(shop: Shop) -> dict[str, Any]:
    rows = await shop.rows("SELECT sums FROM till_totals")
    return decode_sums(rows[0][0]) if rows else {}


async def test_what_is_held_counts_when_it_is_captured(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        assert await totals(shop) == {}
        await shop.pipeline.capture(shop.request("capture", {"of": of, "amount_minor": 1150}))
        await shop.works_done()
        sums = await totals(shop)
        assert (sums[What.SALES], sums[What.SALES_TOTAL], sums[What.TIPS]) == (1, 1000, 150)
        assert sums[labelled(What.TAKEN, "card")] == 1150
        assert await shop.rows("SELECT * FROM till_held") == []


async def test_what_is_given_up_never_counts_as_a_sale(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        of = await held(shop)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        await shop.works_done()
        sums = await totals(shop)
        assert What.SALES not in sums
        assert sums[What.REVERSED] == 0
        assert await shop.rows("SELECT * FROM till_held") == []
