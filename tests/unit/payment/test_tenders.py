"""Which tenders a sale may have, and what each combination leaves in the drawer, at the card and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected
from tests.unit.payment.shop import Shop, open_shop
from tests.unit.payment.test_refund import status
from tests.unit.till.acts import report

DECLINED = "pm_card_visa_chargeDeclinedInsufficientFunds"


def cash(amount: int) -> dict[str, Any]:
    return {"kind": "cash", "amount_minor": amount}


def card(amount: int, source: str = "pm_card_visa") -> dict[str, Any]:
    return {"kind": "card", "amount_minor": amount, "source": source}


async def sell(shop: Shop, *tenders: dict[str, Any], total: int = 1003, **more: Any) -> str:
    key = shop.new_key()
    body = {"currency": "EUR", "amount_minor": total, "tenders": list(tenders), **more}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    return key


@pytest.mark.parametrize(
    ("tenders", "more", "in_drawer", "on_card"),
    [
        ([cash(1005)], {"rounding_minor": 2}, 1005, 0),
        ([cash(500), cash(600)], {"rounding_minor": 2, "change_minor": 95}, 1005, 0),
        ([card(1003)], {}, 0, 1003),
        ([card(603), cash(400)], {}, 400, 603),
        ([cash(200), card(600), cash(300)], {"rounding_minor": 2, "change_minor": 95}, 405, 600),
        ([card(1103), cash(10)], {"tip_minor": 110}, 10, 1103),
    ],
)
async def test_each_combination_is_taken_and_adds_up(
    tmp_path: Path, tenders: list[dict[str, Any]], more: dict[str, Any], in_drawer: int, on_card: int
) -> None:
    async with open_shop(tmp_path, cash_step_minor=5) as shop:
        key = await sell(shop, *tenders, **more)
        assert (await status(shop, key)).state == "approved"
        period = (await report(shop, "x")).period
        assert period.cash is not None
        assert (period.cash.left, shop.provider.charged_minor()) == (in_drawer, on_card)
        assert period.totals.rounding == more.get("rounding_minor", 0)
        assert period.totals.total == 1003


@pytest.mark.parametrize(
    ("tenders", "more", "code"),
    [
        ([card(500), card(503)], {}, "too_many_cards"),
        ([cash(1003)], {}, "rounding_wrong"),
        ([card(1005)], {"rounding_minor": 2}, "rounding_wrong"),
        ([card(603), cash(405)], {"rounding_minor": 5}, "rounding_wrong"),
        ([card(1003), cash(5)], {"change_minor": 5, "capture": "later"}, "later_needs_one_card"),
        ([card(1013)], {"change_minor": 10}, "change_wrong"),
        ([card(1003), cash(0)], {}, "tender_not_positive"),
    ],
)
async def test_other_combinations_are_refused_and_change_nothing(
    tmp_path: Path, tenders: list[dict[str, Any]], more: dict[str, Any], code: str
) -> None:
    async with open_shop(tmp_path, cash_step_minor=5) as shop:
        size = shop.ledger.head.size
        with pytest.raises(Rejected) as refusal:
            await sell(shop, *tenders, **more)
        assert refusal.value.code == code
        assert (shop.ledger.head.size, shop.provider.asked) == (size, [])


async def test_cash_beside_a_declined_card_is_nobodys(tmp_path: Path) -> None:
    async with open_shop(tmp_path, cash_step_minor=5) as shop:
        key = await sell(shop, card(603, DECLINED), cash(400))
        assert (await status(shop, key)).state == "declined"
        period = (await report(shop, "x")).period
        assert period.cash is not None
        assert (period.cash.left, period.totals.sales, shop.provider.charged_minor()) == (0, 0, 0)
