"""A box whose PIN pad accepts cards offline, and what a test asks of it. Holds no test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.model.ids import ProviderReference, TerminalId
from appliance.model.offline import Exposure, OfflineLimits
from appliance.payment.offline_records import exposure
from appliance.wire.answers import PaymentAnswer
from tests.fakes.clock import FakeClock
from tests.fakes.forwards import FakeForwards
from tests.unit.payment.shop import Shop, open_shop, rebuilt_equal

LIMITS: Final = OfflineLimits(sale_minor_max=5_000, terminal_minor_max=8_000, box_minor_max=10_000, age_hours_max=24)


PADS_ARE: type[FakeForwards] = FakeForwards
"""What kind of device a test has that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """A box whose PIN pad cannot reach any bank."""

    shop: Shop
    pads: FakeForwards

    async def sell(self, minor: int, *, terminal: str = "till-1", cash: int = 0, **more: Any) -> PaymentAnswer:
        tenders: list[dict[str, Any]] = [{"kind": "pin_pad", "amount_minor": minor}]
        if cash:
            tenders.append({"kind": "cash", "amount_minor": cash})
        key = self.shop.new_key()
        body = {"currency": "EUR", "amount_minor": minor + cash, "tenders": tenders, **more}
        await self.shop.pipeline.pay(self.shop.request("payment", body, key, terminal=terminal))
        await self.shop.works_done()
        return await self.status(key)

    async def status(self, key: str) -> PaymentAnswer:
        return await self.shop.pipeline.status(self.shop.request("status", {"of": key}))

    async def reverse(self, key: str) -> None:
        await self.shop.pipeline.reverse(self.shop.request("reversal", {"of": key}))
        await self.shop.works_done()

    async def forward(self) -> None:
        """Until nothing more goes, without a pause."""
        while await self.shop.forwarder.look():
            await self.shop.works_done()

    async def exposure(self, terminal: str | None = None) -> Exposure:
        name = None if terminal is None else TerminalId(terminal)
        return await self.shop.ledger.read(lambda connection: exposure(connection, name))

    def reference(self, number: int = -1) -> ProviderReference:
        return list(self.pads.accepted)[number]


@asynccontextmanager
async def open_till(
    folder: Path, limits: OfflineLimits = LIMITS, *, pads_are: type[FakeForwards] | None = None
) -> AsyncIterator[Till]:
    clock = FakeClock()
    pads = (pads_are or PADS_ARE)(clock=clock)
    pads.is_bank_down = True
    async with open_shop(folder, clock=clock, pads=pads, limits=limits) as shop:
        yield Till(shop=shop, pads=pads)
        await shop.works_done()
        await rebuilt_equal(shop)
