"""A shop with the Stripe twin in the test's own loop, and whoever compares their books. Holds no test."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.adapters.stripe_session import StripeSettings
from appliance.adapters.stripe_statement import StripeStatement
from appliance.config.secret import Secret
from appliance.ledger.projection import create_tables, tables_digest
from appliance.model.limits import HOUR_MS
from appliance.model.reconciling import FeeRule
from appliance.payment.reconcile import Reconciliation
from appliance.ports.statement import Statement
from appliance.runtime.log import Log
from appliance.wire.answers import ReconcileAnswer
from provisioning.sandbox.stripe_twin_balance import Plant, plant
from tests.fakes.clock import FakeClock
from tests.stripe_twin_here import KEY, TwinHere
from tests.unit.payment.shop import CALENDAR, PROJECTIONS, Shop, open_shop
from tests.unit.till.acts import card, pay

FEE = FeeRule(basis_points_max=500, fixed_minor_max=100)


@dataclass(kw_only=True)
class Books:
    """A shop, and whoever compares its books with a provider's."""

    shop: Shop
    clock: FakeClock
    reconciliation: Reconciliation

    def end_day(self, more_ms: int = HOUR_MS) -> str:
        """So long after the day's end, as five in the morning after; returns the name of the day that ended."""
        day = CALENDAR.day_of(self.clock.now_ms())
        self.clock.pass_time(day.ends_ms + more_ms - self.clock.now_ms())
        return str(day)

    async def look(self, day: str | None = None) -> ReconcileAnswer:
        return await self.reconciliation.reconcile(day)

    async def kinds(self) -> list[tuple[str, str, str]]:
        """Type, owner and day of what is open."""
        return sorted((each.type, each.owner, each.since) for each in (await self.look()).breaks)


@dataclass(kw_only=True)
class Desk(Books):
    """With the Stripe twin."""

    twin: TwinHere
    events: list[str] = field(default_factory=list)

    async def sell(self, amount: int) -> str:
        """One card sale; returns the provider's name of it."""
        key = self.shop.new_key()
        await pay(self.shop, card(amount), key=key)
        await self.shop.works_done()
        return self.newest_payment()

    def newest_payment(self) -> str:
        return str(self.twin.charges()[-1]["payment_intent"])

    def plant(self, payment: str, what: Any, **more: Any) -> None:
        with self.twin.store.transaction():
            plant(self.twin.store, Plant(payment=payment, what=what, **more))


@asynccontextmanager
async def open_desk(folder: Path) -> AsyncIterator[Desk]:
    """A desk for one test; behind the test, a rebuild of its log has to give the tables that stand."""
    clock = FakeClock()
    async with TwinHere(clock) as twin:
        settings = StripeSettings(api_base=twin.base, api_key=Secret(KEY.encode()))
        statement = await StripeStatement.open(settings=settings, clock=clock)
        try:
            async with open_shop(folder, clock=clock, asked=await twin.provider()) as shop:
                reconciliation = compare(shop, statement, clock, provider="stripe")
                yield Desk(shop=shop, twin=twin, clock=clock, reconciliation=reconciliation)
                await rebuild_is_equal(shop)
        finally:
            await statement.close()


def compare(shop: Shop, statement: Statement, clock: FakeClock, *, provider: str) -> Reconciliation:
    """Whoever compares the books of `shop` with what `provider` lists."""
    return Reconciliation(
        ledger=shop.ledger,
        statement=statement,
        clock=clock,
        log=Log(sink=lambda _line: None, clock=clock),
        calendar=CALENDAR,
        provider=provider,
        log_origin=shop.audience,
        currency="EUR",
        fee=FEE,
    )


async def rebuild_is_equal(shop: Shop) -> None:
    """The tables are a function of the entries."""
    reconcile = [each for each in PROJECTIONS if each.name in ("payment", "reconcile")]
    kept = await shop.ledger.read(lambda connection: tables_digest(connection, reconcile))
    page = await shop.ledger.entries(-1, 1_000)
    assert page.entries[-1].seq == shop.ledger.head.size - 1

    def rebuilt() -> bytes:
        with closing(sqlite3.connect(":memory:")) as fresh:
            for each in reconcile:
                create_tables(fresh, each)
                each.apply(fresh, [entry for entry in page.entries if entry.kind in each.kinds])
            return tables_digest(fresh, reconcile)

    assert await asyncio.to_thread(rebuilt) == kept
