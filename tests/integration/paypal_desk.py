"""A shop at which customers pay with PayPal's twin, and whoever compares their books. Holds no test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.model.limits import HOUR_MS
from appliance.payment.reconcile import Reconciliation
from appliance.runtime.log import Log
from appliance.wire.answers import ReconcileAnswer
from tests.fakes.clock import FakeClock
from tests.integration.desk import FEE, rebuild_is_equal
from tests.paypal_twin_here import PayPalHere
from tests.unit.payment.counter import PAYPAL
from tests.unit.payment.shop import CALENDAR, Shop, open_shop
from tests.unit.till.acts import pay

SETTLED_MS = 3 * HOUR_MS


@dataclass
class PayPalDesk:
    """A shop, its provider, and whoever compares their books."""

    shop: Shop
    here: PayPalHere
    clock: FakeClock
    reconciliation: Reconciliation

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

    def end_day(self, more_ms: int = SETTLED_MS) -> str:
        """So long after the day's end; returns its name."""
        day = CALENDAR.day_of(self.clock.now_ms())
        self.clock.pass_time(day.ends_ms + more_ms - self.clock.now_ms())
        return str(day)

    async def look(self, day: str | None = None) -> ReconcileAnswer:
        return await self.reconciliation.reconcile(day)

    async def kinds(self) -> list[tuple[str, str, str]]:
        """Type, owner and day of what is open."""
        return sorted((each.type, each.owner, each.since) for each in (await self.look()).breaks)


@asynccontextmanager
async def open_paypal_desk(folder: Path) -> AsyncIterator[PayPalDesk]:
    """A desk for one test; behind the test, a rebuild of its log has to give the tables that stand."""
    clock = FakeClock()
    async with PayPalHere(clock) as here:
        statement = here.statement()
        try:
            async with open_shop(folder, clock=clock, offers=here.provider()) as shop:
                reconciliation = Reconciliation(
                    ledger=shop.ledger,
                    statement=statement,
                    clock=clock,
                    log=Log(sink=lambda _line: None, clock=clock),
                    calendar=CALENDAR,
                    provider=PAYPAL,
                    log_origin=shop.audience,
                    currency="EUR",
                    fee=FEE,
                )
                yield PayPalDesk(shop=shop, here=here, clock=clock, reconciliation=reconciliation)
                await rebuild_is_equal(shop)
        finally:
            await statement.close()
