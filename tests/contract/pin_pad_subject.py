"""A PIN pad as a subject of the contract: before a card is asked for, the pad's last payment is read."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Final

from appliance.adapters.pin_pad import PinPadProvider
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.ports.provider import (
    Absent,
    Answer,
    Authorise,
    Confirmed,
    Found,
    Offer,
    Offered,
    Operation,
    Provider,
    Refund,
    Unknown,
)
from tests.fakes.provider import Switch
from tests.pin_pad_here import PinPadHere

ANSWER_S: Final = 2.0
CUSTOMERS: Final = {
    Switch.FAIL_BEFORE: "cut",
    Switch.FAIL_AFTER: "broken",
    Switch.HANG_BEFORE: "off",
    Switch.HANG_AFTER: "silent",
}


class PinPadSubject:
    """The adapter on the twin; the card that an operation names is the one that the customer shows."""

    remembers_declines = False
    knows_what_is_left = False

    def __init__(self, here: PinPadHere, provider: PinPadProvider) -> None:
        self._here = here
        self._pads = provider
        self._numbers = itertools.count(1)
        self.provider: Provider = _Noting(here, provider)
        self._before_minor = here.use_by_hand(500)  # a PIN pad that never took a card can prove nothing

    async def ready(self, operation: Authorise) -> Authorise:
        key = ProviderKey(f"{operation.provider_key}/offer/{next(self._numbers)}")
        made = await self._pads.offer(Offer(provider_key=key, reference=operation.reference, amount=operation.amount))
        assert isinstance(made, Offered), made
        return replace(operation, of=made.provider_reference)

    def code_of(self, _code: str) -> str:
        return "card_declined"

    async def strike(self, switch: Switch) -> None:
        if switch is Switch.LIE:
            self._here.twin.says_amount = "000000000001"
        else:
            does = CUSTOMERS[switch]
            self._here.twin.customer = lambda: does

    async def kept_minor(self) -> int:
        return self._here.twin.kept_minor - self._before_minor

    async def cut_line(self) -> None:
        await self._here.cut_line()
        # A line that was kept open is found dead by this look, not by what is asked next.
        await self._pads.answers("counter")


class _Noting:
    """Satisfies `Provider`, and writes down what a ledger would."""

    def __init__(self, here: PinPadHere, inner: PinPadProvider) -> None:
        self._here = here
        self._inner = inner

    def patience_ms(self, operation: Operation) -> int:
        return self._inner.patience_ms(operation)

    def give_up(self, provider_key: ProviderKey) -> None:
        self._inner.give_up(provider_key)

    def hurry(self, reference: ProviderReference) -> bool:
        return self._inner.hurry(reference)

    async def authorise(self, operation: Authorise) -> Answer:
        if "Declined" in operation.source:
            self._here.twin.customer = lambda: "decline"
        self._here.log.begin(operation.reference.operation_id, operation.of)
        return self._noted(operation, await self._inner.authorise(operation))

    async def refund(self, operation: Refund) -> Answer:
        self._here.log.begin(operation.reference.operation_id, None)
        return self._noted(operation, await self._inner.refund(operation))

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        self._here.twin.customer = lambda: "approve"  # the line is back
        self._here.twin.says_amount = None
        if isinstance(operation, Authorise) and not self._here.log.knows(operation.reference.operation_id):
            self._here.log.begin(operation.reference.operation_id, operation.of)  # its intent, and nobody asked
        return await self._inner.find(operation, since_ms=since_ms, known=known)

    async def close(self) -> None:
        await self._inner.close()

    def _noted(self, operation: Operation, answer: Answer) -> Answer:
        if isinstance(answer, Confirmed):
            self._here.log.names[operation.reference.operation_id] = answer.provider_reference
        return answer
