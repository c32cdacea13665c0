"""A provider in memory whose device accepts cards offline, with the switches of `FakeProvider`."""

from __future__ import annotations

import asyncio

from typing_extensions import override

from appliance.model.ids import ProviderReference
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    BANK_UNREACHABLE,
    Absent,
    AcceptedOffline,
    Answer,
    Authorise,
    Cancel,
    Capture,
    Confirmed,
    Declined,
    Forward,
    Found,
    NotSent,
    Operation,
    PartlyConfirmed,
    Refused,
    Unknown,
)
from tests.fakes.provider import FakeProvider


class FakeForwards(FakeProvider):
    """Satisfies `Forwards`; it holds no money.

    Attributes:
        is_bank_down: no card's bank can be asked.
        says_no: accepted payments whose bank will decline them.
        keeps: it cannot forget what it accepted.
        accepted: what it accepted and no bank was asked for, in order.
        is_forwarding: set by the first forward.
    """

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.is_bank_down = False
        self.says_no: set[ProviderReference] = set()
        self.keeps = False
        self.accepted: dict[ProviderReference, Authorise] = {}
        self.forwarded: list[ProviderReference] = []
        self._refused: set[ProviderReference] = set()
        self.is_forwarding = asyncio.Event()

    async def forward(self, operation: Forward) -> Answer:
        self.is_forwarding.set()
        return await self._ask(operation)

    @override
    def _authorise(self, operation: Authorise) -> Confirmed | PartlyConfirmed | AcceptedOffline | Declined:
        if not self.is_bank_down:
            return super()._authorise(operation)
        if not operation.may_accept_offline:
            return Declined(code=BANK_UNREACHABLE, message="The card's bank cannot be asked.")
        reference = ProviderReference(f"{self.device}off_{len(self._done) + 1:024d}")
        self.accepted[reference] = operation
        return AcceptedOffline(provider_reference=reference, amount=operation.amount, accepted_ms=self._now_ms())

    @override
    def _forward(self, operation: Forward) -> Confirmed | Declined | NotSent | Refused:
        of = operation.of
        if of in self._captured:
            return self._confirmed(operation, of)
        if of not in self.accepted:
            return Refused(code="resource_missing", detail="no such payment")
        if self.is_bank_down:
            return NotSent(reason=BANK_UNREACHABLE)
        self.forwarded.append(of)
        accepted = self.accepted.pop(of)
        if of in self.says_no:
            self._refused.add(of)
            return Declined(code="insufficient_funds", message="The bank said no.", provider_reference=of)
        self._payments[of] = accepted
        self._captured[of] = accepted.amount.amount_minor
        return self._confirmed(operation, of)

    @override
    def _cancel(self, operation: Cancel) -> Confirmed | Refused:
        if self.keeps or operation.of in self._captured:
            return Refused(code="cannot_forget", detail="it goes to its bank")
        self.accepted.pop(operation.of, None)
        self._cancelled.add(operation.of)
        return self._confirmed(operation, operation.of)

    @override
    def _found_on_payment(self, operation: Cancel | Capture) -> Found | Absent | Unknown:
        if operation.of in self._cancelled:
            return Found(answer=self._confirmed(operation, operation.of))
        if operation.of in self._captured:
            return Found(answer=Declined(code="cannot_forget", message="Its bank was asked."))
        return Absent(as_of_ms=self._now_ms())

    @override
    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        if not isinstance(operation, Forward):
            return await super().find(operation, since_ms=since_ms, known=known)
        if self.is_reading_down:
            return Unknown(reason="connection_lost")
        if operation.of in self.accepted:
            return Absent(as_of_ms=self._now_ms())
        if operation.of in self._captured:
            return Found(answer=self._confirmed(operation, operation.of))
        if operation.of in self._refused:
            return Found(answer=Declined(code="insufficient_funds", message="The bank said no."))
        return Unknown(reason="reference_differs")
