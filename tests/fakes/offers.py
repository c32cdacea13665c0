"""A provider in memory at which customers agree first, with the switches of `FakeProvider`."""

from __future__ import annotations

import asyncio

from typing_extensions import override

from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Absent,
    Authorise,
    Cancel,
    Capture,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Offer,
    Offered,
    Operation,
    Refused,
    Unknown,
)
from tests.fakes.provider import FakeProvider


class FakeOffers(FakeProvider):
    """Satisfies every protocol of `ports/provider.py`.

    Attributes:
        made: what the next offer answers instead of being made.
        agreed: offers whose customer agreed.
        is_time_over: no customer agrees any more.
        is_deaf: `give_up` is not heard.
        is_waiting_lost: nobody waits any more, and nothing is known.
    """

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.made: Refused | NotSent | Unknown | None = None
        self.offered: list[Offer] = []
        self.agreed: set[ProviderReference] = set()
        self.is_time_over = False
        self.is_waiting_lost = False
        self.is_deaf = False
        self._news = asyncio.Event()

    @property
    def customer_ms(self) -> int:
        return MINUTE_MS

    def agree(self, reference: str) -> None:
        """The customer says yes."""
        self.agreed.add(ProviderReference(reference))
        self._news.set()

    def wake(self) -> None:
        """Whoever waits looks again."""
        self._news.set()

    async def offer(self, operation: Offer) -> Offered | Refused | NotSent | Unknown:
        self.offered.append(operation)
        if self.made is not None:
            return self.made
        reference = ProviderReference(f"order_{len(self.offered)}")
        return Offered(provider_reference=reference, show=f"https://pay.test/{reference}")

    async def await_customer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        while of not in self.agreed:
            if self.is_waiting_lost:
                return Unknown(reason="connection_lost", provider_reference=of)
            if operation.provider_key in self.given_up:
                return Declined(code="payment_aborted", message="The till stopped waiting.", provider_reference=of)
            self._news.clear()
            await self._news.wait()
        return await self.look_at_offer(operation, of)

    async def look_at_offer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        if of in self.agreed:
            return Confirmed(provider_reference=of, amount=operation.amount, confirmed_ms=self._now_ms())
        if self.is_time_over:
            return Declined(code="customer_timeout", message="Nobody agreed in time.", provider_reference=of)
        return Unknown(reason="customer_asked", provider_reference=of)

    @override
    def give_up(self, provider_key: ProviderKey) -> None:
        if not self.is_deaf:
            super().give_up(provider_key)
            self._news.set()

    @override
    def _authorise(self, operation: Authorise) -> Confirmed | Declined:
        assert operation.of is not None
        assert operation.of in self.agreed
        assert operation.of not in self._captured, "taken twice"
        self._payments[operation.of] = operation
        self._captured[operation.of] = operation.amount.amount_minor
        return self._confirmed(operation, operation.of)

    @override
    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        if self.is_reading_down or isinstance(operation, Cancel | Capture):
            return Unknown(reason="connection_lost")
        return await super().find(operation, since_ms=since_ms, known=None)
