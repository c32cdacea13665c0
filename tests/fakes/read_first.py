"""A provider in memory whose device is read before a card is asked for, and that may accept cards offline."""

from __future__ import annotations

import asyncio

from typing_extensions import override

from appliance.model.ids import ProviderReference
from appliance.ports.provider import (
    Answer,
    Authorise,
    Basis,
    Confirmed,
    Declined,
    NotSent,
    Offer,
    Offered,
    Refused,
    Unknown,
)
from tests.fakes.clock import FakeClock
from tests.fakes.forwards import FakeForwards


class FakeReadFirst(FakeForwards):
    """Satisfies `Forwards` and `Offers`.

    Attributes:
        made: what the next offer answers instead of being made.
        holds_card: no card is answered before `release_card`.
    """

    device = "counter/"

    def __init__(self, *, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.fake_clock = clock
        self.made: NotSent | None = None
        self.holds_card = False
        self.asked_for_card = asyncio.Event()
        self._released = asyncio.Event()
        self._read = 0

    @property
    def customer_ms(self) -> int:
        return 0

    def release_card(self) -> None:
        self._released.set()

    async def offer(self, operation: Offer) -> Offered | Refused | NotSent | Unknown:
        if self.made is not None:
            return self.made
        self._read += 1
        return Offered(provider_reference=ProviderReference(f"{self.device}{self._read}"), show=None)

    async def await_customer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        return Confirmed(provider_reference=of, amount=operation.amount, confirmed_ms=self._now_ms())

    async def look_at_offer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        return Declined(code="pad_not_asked", message="It was not asked.", provider_reference=of, basis=Basis.OWN_LOG)

    @override
    async def authorise(self, operation: Authorise) -> Answer:
        if self.holds_card:
            self.asked_for_card.set()
            await self._released.wait()
        return await super().authorise(operation)
