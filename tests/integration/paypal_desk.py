"""A shop at which customers pay with PayPal's twin, and whoever compares their books. Holds no test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from appliance.model.limits import HOUR_MS
from tests.fakes.clock import FakeClock
from tests.integration.desk import Books, compare, rebuild_is_equal
from tests.paypal_twin_here import PayPalHere
from tests.unit.payment.counter import PAYPAL
from tests.unit.payment.shop import open_shop
from tests.unit.till.acts import pay

SETTLED_MS = 3 * HOUR_MS


@dataclass(kw_only=True)
class PayPalDesk(Books):
    """With PayPal's twin."""

    here: PayPalHere

    async def sell(self, amount: int, funding: str = "good") -> tuple[str, str]:
        """One sale whose customer agrees at once; its key, and PayPal's name of the capture."""
        self.here.store.keep_note("customer", {"does": "agree", "funding": funding})
        key = self.shop.new_key()
        tenders = [{"kind": "paypal", "amount_minor": amount}]
        await pay(self.shop, {"currency": "EUR", "amount_minor": amount, "tenders": tenders}, key=key)
        await self.shop.works_done()
        order = self.here.store.newest_first("order")[0]
        return key, str(order["purchase_units"][0]["payments"]["captures"][0]["id"])

    async def give_back(self, key: str, amount: int) -> None:
        await self.shop.pipeline.refund(self.shop.request("refund", {"of": key, "amount_minor": amount}))
        await self.shop.works_done()

    def decide(self, *, is_taken: bool) -> None:
        """PayPal ends its review of the newest order's capture."""
        self.here.decide(str(self.here.store.newest_first("order")[0]["id"]), is_taken=is_taken)

    @override
    def end_day(self, more_ms: int = SETTLED_MS) -> str:
        return super().end_day(more_ms)


@asynccontextmanager
async def open_paypal_desk(folder: Path) -> AsyncIterator[PayPalDesk]:
    """A desk for one test; behind the test, a rebuild of its log has to give the tables that stand."""
    clock = FakeClock()
    async with PayPalHere(clock) as here:
        statement = here.statement()
        try:
            async with open_shop(folder, clock=clock, offers=here.provider()) as shop:
                reconciliation = compare(shop, statement, clock, provider=PAYPAL)
                yield PayPalDesk(shop=shop, here=here, clock=clock, reconciliation=reconciliation)
                await rebuild_is_equal(shop)
        finally:
            await statement.close()
