"""After a mixed history: rebuilding gives the same tables, and an erased customer is nowhere on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.ledger.projection import tables_digest
from tests.fakes.provider import Switch
from tests.unit.payment.shop import PROJECTIONS, Shop, open_shop

CUSTOMER = "Grace Brewster Hopper"
CASHIER = "Augusta Ada King"
CASH: dict[str, Any] = {
    "currency": "EUR",
    "amount_minor": 1250,
    "tenders": [{"kind": "cash", "amount_minor": 1250}],
    "cashier": CASHIER,
    "customer": CUSTOMER,
}
CARD = CASH | {"tenders": [{"kind": "card", "amount_minor": 1250, "source": "pm_card_visa"}]}


async def mixed_history(shop: Shop) -> list[str]:
    """Every kind of entry that a terminal can cause; returns the keys of the payments."""
    pipeline = shop.pipeline
    cash, refunded, card, declined, lost, reversed_open, never = (shop.new_key() for _ in range(7))
    for key in (cash, refunded):
        await pipeline.pay(shop.request("payment", CASH, key))
    await pipeline.refund(shop.request("refund", {"of": refunded, "reason": "returned"}))
    await pipeline.pay(shop.request("payment", CARD, card))
    await shop.works_done()
    source = "pm_card_visa_chargeDeclinedInsufficientFunds"
    sale = CARD | {"tenders": [{"kind": "card", "amount_minor": 1250, "source": source}]}
    await pipeline.pay(shop.request("payment", sale, declined))
    await shop.works_done()
    shop.provider.strike(Switch.FAIL_BEFORE)
    await pipeline.pay(shop.request("payment", CARD, lost))
    await shop.works_done()
    shop.provider.strike(Switch.FAIL_AFTER)
    await pipeline.pay(shop.request("payment", CARD, reversed_open))
    await shop.works_done()
    await pipeline.reverse(shop.request("reversal", {"of": reversed_open}))
    await pipeline.reverse(shop.request("reversal", {"of": never}))
    await shop.pair("till-2")
    items = [{"key": shop.new_key(), "payment": CASH} for _ in range(3)]
    await shop.batch.take(shop.request("batch", {"items": items}, terminal="till-2"))
    shop.refusals.count("till-1", "tax_wrong")
    await shop.refusals.flush()
    await shop.settle()
    return [cash, refunded, card, declined, lost, reversed_open, never]


async def digest(shop: Shop) -> bytes:
    return await shop.ledger.read(lambda connection: tables_digest(connection, PROJECTIONS))


async def test_rebuilding_gives_the_same_tables_before_and_after_an_erasure(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        keys = await mixed_history(shop)
        states = [(await shop.pipeline.status(shop.request("status", {"of": key}))).state for key in keys]
        assert states == ["approved", "refunded", "approved", "declined", "not_charged", "reversed", "cancelled"]
        before = await digest(shop)
        await shop.ledger.rebuild()
        assert await digest(shop) == before
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="box")
        assert await digest(shop) == before
        await shop.ledger.rebuild()
        assert await digest(shop) == before
    async with open_shop(tmp_path) as again:
        assert await again.rows("SELECT count(*) FROM payments") == [(10,)]


async def test_erased_customer_is_nowhere_in_the_folder(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        (first, *_) = await mixed_history(shop)
        found = await shop.rows("SELECT seq FROM entries WHERE kind = 'sale' LIMIT 1")
        ((seq,),) = found
        assert {item.name for item in await shop.ledger.disclosures(seq)} == {
            "cashier",
            "customer",
            "request",
            "request.1",
        }
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="box")
        left = await shop.ledger.disclosures(seq)
        assert CUSTOMER.encode() not in b"".join(item.value for item in left)
        assert any(item.value == CASHIER.encode() for item in left), "the other person stays"
        answer = await shop.pipeline.status(shop.request("status", {"of": first}))
        assert answer.receipt is not None, "the sale stays provable"
        assert search(tmp_path) == []
    assert search(tmp_path) == []


def search(folder: Path) -> list[str]:
    """Files in which a part of either name stands: nothing personal is ever written in the clear."""
    parts = [b"Hopper", b"Brewster", b"Augusta", "Hopper".encode("utf-16-le")]
    return [
        path.name for path in folder.rglob("*") if path.is_file() and any(part in path.read_bytes() for part in parts)
    ]
