"""Tokens at a till, in short words for tests. Holds no test."""

from __future__ import annotations

from typing import Any, Final

from appliance.wire.answers import PaymentAnswer, TokenAnswer
from tests.unit.payment.shop import Shop

SECRET: Final = "pm_1Kept4TillstoneOnlyHere"
CUSTOMER: Final = "Hedy Lamarr"


async def token(shop: Shop, act: str, *, key: str | None = None, **more: Any) -> TokenAnswer:
    return await shop.tokens.act(shop.request("token", {"act": act, **more}, key))


async def keep(shop: Shop, secret: str = SECRET, **more: Any) -> str:
    """The name of a new token."""
    return (await token(shop, "keep", token=secret, **({"purposes": ["sale"]} | more))).name


def card_of(source: str, amount: int = 990, **more: Any) -> dict[str, Any]:
    tenders = [{"kind": "card", "amount_minor": amount, "source": source}]
    return {"currency": "EUR", "amount_minor": amount, "tenders": tenders, **more}


async def pay(shop: Shop, source: str, *, key: str | None = None, **more: Any) -> PaymentAnswer:
    """A sale by the token of this name, to its end."""
    key = shop.new_key() if key is None else key
    await shop.pipeline.pay(shop.request("payment", card_of(source, **more), key))
    await shop.works_done()
    return await shop.pipeline.status(shop.request("status", {"of": key}))


def told_provider(shop: Shop) -> list[str]:
    """What the provider was told as the source of each authorisation."""
    return [operation.source for operation in shop.provider.asked if hasattr(operation, "source")]
