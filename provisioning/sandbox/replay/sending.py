"""Two tills that hand over purchases in signed batches, each at its own pace.

Owns the batches and their times. Must never send a sale under two keys: a batch that got no answer is sent again as it
was, by the client.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.model.errors import TillstoneError
from appliance.model.limits import BATCH_SALES_MAX
from appliance.wire.requests import BatchBody, BatchItem, PaymentBody, TenderBody
from provisioning.sandbox.layout import TILLS, SandboxFolder
from provisioning.sandbox.replay.purchases import Purchase
from provisioning.sandbox.tills import open_till
from provisioning.terminal.client import TerminalClient

BATCH_SALES: Final = BATCH_SALES_MAX // 2
BATCH_MS_MAX: Final = 60_000
REFERENCE_PREFIX: Final = "replay"


@dataclass(slots=True, kw_only=True)
class Handed:
    """What the box answered: seconds and sales per batch, accepted sales, refusals by code."""

    accepted: int = 0
    without_receipt: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    batches: list[tuple[float, int]] = field(default_factory=list)
    trouble: str = ""


def hand_over(
    folder: SandboxFolder, purchases: Sequence[Purchase], on_sales: Callable[[int], None]
) -> tuple[list[Handed], float]:
    """Send every other purchase from each till, both at once; returns what each heard, and the seconds it took."""
    sellers = [_Seller(folder, name, purchases[number :: len(TILLS)], on_sales) for number, name in enumerate(TILLS)]
    began = time.monotonic()
    for seller in sellers:
        seller.start()
    for seller in sellers:
        seller.join()
    return [seller.handed for seller in sellers], time.monotonic() - began


class _Seller(threading.Thread):
    def __init__(
        self, folder: SandboxFolder, name: str, purchases: Sequence[Purchase], on_sales: Callable[[int], None]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._home = folder.till(name)
        self._purchases = purchases
        self._on_sales = on_sales
        self.handed = Handed()

    def run(self) -> None:
        try:
            asyncio.run(self._send_all())
        except TillstoneError as trouble:
            self.handed.trouble = f"{self.name}: {trouble}"

    async def _send_all(self) -> None:
        currency = self._home.profile().currency
        async with open_till(self._home) as client:
            for begin in range(0, len(self._purchases), BATCH_SALES):
                body = _batch(client, self._purchases[begin : begin + BATCH_SALES], currency)
                await self._send(client, body)

    async def _send(self, client: TerminalClient, body: BatchBody) -> None:
        began = time.monotonic()
        answer = await client.batch(body, key=client.new_key(), deadline=client.deadline(BATCH_MS_MAX))
        self.handed.batches.append((time.monotonic() - began, len(body.items)))
        refused = [result for result in answer.results if result.state == "refused"]
        self.handed.refused.update(result.code or "unnamed" for result in refused)
        self.handed.accepted += len(answer.results) - len(refused)
        if answer.receipt is None:
            self.handed.without_receipt += len(answer.results) - len(refused)
        self._on_sales(len(body.items))


def _batch(client: TerminalClient, purchases: Sequence[Purchase], currency: str) -> BatchBody:
    now_ms = time.time_ns() // 1_000_000
    return BatchBody(
        items=tuple(
            BatchItem(key=str(client.new_key()), payment=_payment(purchase, currency, now_ms)) for purchase in purchases
        )
    )


def _payment(purchase: Purchase, currency: str, now_ms: int) -> PaymentBody:
    """The sale as if made now: a sale older than 90 days is refused, so the true day stands in the reference."""
    return PaymentBody(
        currency=currency,
        tenders=(TenderBody(kind="cash", amount_minor=purchase.amount_minor),),
        amount_minor=purchase.amount_minor,
        sold_at_ms=now_ms,
        reference=f"{REFERENCE_PREFIX} {purchase.day} {purchase.row}",
        customer=purchase.customer,
    )
