"""A sale of 50.00 that is paid in parts, at a box in one process. Holds no test."""

from __future__ import annotations

from typing import Any, Final

import pytest

from appliance.model.errors import Rejected
from appliance.model.till import Scope
from appliance.till.records import read_period
from appliance.wire.answers import PaymentAnswer, SaleAnswer
from appliance.wire.till_entries import PeriodFacts
from tests.unit.payment.shop import Shop, rebuilt_equal

TOTAL: Final = 5000
DECLINED: Final = "pm_card_visa_chargeDeclinedInsufficientFunds"
LINES: Final = [
    {"sku": "COAT", "unit_price_minor": 3500, "tax_code": "A", "tax_rate_basis_points": 1900},
    {"sku": "SCARF", "unit_price_minor": 1500, "tax_code": "A", "tax_rate_basis_points": 1900},
]
TAXES: Final = [{"tax_code": "A", "rate_basis_points": 1900, "net_minor": 4202, "tax_minor": 798}]


def first_body(covers: int, tender: str = "card", source: str | None = None, **more: Any) -> dict[str, Any]:
    """The first part: the whole sale, of which it pays so much."""
    return {
        "currency": "EUR",
        "lines": LINES,
        "taxes": TAXES,
        "total_minor": TOTAL,
        "remaining_minor": TOTAL - covers,
        "tenders": [_tender(tender, covers + more.get("tip_minor", 0), source)],
        **more,
    }


def later_body(of: str, covers: int, tender: str = "card", source: str | None = None, **more: Any) -> dict[str, Any]:
    """A later part of the sale whose first part is `of`."""
    paid = covers + more.get("tip_minor", 0) + more.get("rounding_minor", 0)
    tenders = [_tender(tender, paid, source)]
    return {"currency": "EUR", "part_of": of, "amount_minor": covers, "tenders": tenders, **more}


async def pay(shop: Shop, body: dict[str, Any], key: str | None = None, terminal: str = "till-1") -> str:
    key = shop.new_key() if key is None else key
    await shop.pipeline.pay(shop.request("payment", body, key, terminal=terminal))
    await shop.works_done()
    return key


async def refused(shop: Shop, body: dict[str, Any], verb: str = "payment") -> str:
    """The code of a refusal that writes nothing."""
    before = await shop.rows("SELECT count(*) FROM entries")
    ask = {"payment": shop.pipeline.pay, "refund": shop.pipeline.refund, "reversal": shop.pipeline.reverse}[verb]
    with pytest.raises(Rejected) as refusal:
        await ask(shop.request(verb, body))
    assert await shop.rows("SELECT count(*) FROM entries") == before, "a refusal writes nothing"
    return refusal.value.code


async def status(shop: Shop, key: str) -> PaymentAnswer:
    return await shop.pipeline.status(shop.request("status", {"of": key}))


async def stands(shop: Shop, key: str) -> SaleAnswer:
    sale = (await status(shop, key)).sale
    assert sale is not None
    return sale


async def states(shop: Shop, *keys: str) -> list[str]:
    return [(await status(shop, key)).state for key in keys]


async def reverse(shop: Shop, of: str) -> PaymentAnswer:
    answer = await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
    await shop.works_done()
    return answer


async def refund(shop: Shop, of: str, **part: Any) -> PaymentAnswer:
    key = shop.new_key()
    await shop.pipeline.refund(shop.request("refund", {"of": of, **part}, key))
    await shop.works_done()
    return await status(shop, key)


async def books(shop: Shop) -> PeriodFacts:
    """The shop's period, which adds up (`Bug` otherwise); rebuilding gives the same tables."""
    await rebuilt_equal(shop)
    return await shop.ledger.read(lambda connection: read_period(connection, Scope.SHOP, "", "EUR"))


def taken(period: PeriodFacts) -> dict[str, tuple[int, int]]:
    return {each.kind: (each.taken, each.returned) for each in period.tenders}


def _tender(kind: str, amount: int, source: str | None) -> dict[str, Any]:
    return {"kind": kind, "amount_minor": amount, **({} if source is None else {"source": source})}
