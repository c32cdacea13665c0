"""What cashiers do, in short words for tests of the till. Holds no test."""

from __future__ import annotations

from typing import Any

from appliance.wire.answers import DrawerAnswer, PaymentAnswer, ReportAnswer
from tests.unit.payment.shop import Shop


def cash(amount: int, given: int | None = None, **more: Any) -> dict[str, Any]:
    given = amount if given is None else given
    tenders = [{"kind": "cash", "amount_minor": given}]
    return {"currency": "EUR", "amount_minor": amount, "tenders": tenders, "change_minor": given - amount, **more}


def card(amount: int) -> dict[str, Any]:
    tenders = [{"kind": "card", "amount_minor": amount, "source": "pm_card_visa"}]
    return {"currency": "EUR", "amount_minor": amount, "tenders": tenders}


async def act(
    shop: Shop, name: str, amount: int = 0, *, terminal: str = "till-1", key: str | None = None, **more: Any
) -> DrawerAnswer:
    body = {"act": name, "amount_minor": amount, **more}
    if name in ("paid_in", "paid_out"):
        body.setdefault("reason", "a reason")
    return await shop.drawers.act(shop.request("drawer", body, key, terminal=terminal))


async def pay(shop: Shop, body: dict[str, Any], *, terminal: str = "till-1", key: str | None = None) -> PaymentAnswer:
    return await shop.pipeline.pay(shop.request("payment", body, key, terminal=terminal))


async def report(
    shop: Shop, kind: str, scope: str = "drawer", *, terminal: str = "till-1", key: str | None = None
) -> ReportAnswer:
    return await shop.reports.report(shop.request("report", {"kind": kind, "scope": scope}, key, terminal=terminal))


async def log_size(shop: Shop) -> int:
    return shop.ledger.head.size
