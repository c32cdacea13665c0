"""A Stripe provider whose cards are all shown to a reader: what the contract suite of providers runs on."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from appliance.adapters.stripe import StripeProvider
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import DAY_MS
from appliance.ports.provider import (
    Absent,
    Answer,
    Authorise,
    Cancel,
    Capture,
    CardSource,
    Found,
    Holds,
    Operation,
    Refund,
    Unknown,
)
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from provisioning.sandbox.stripe_twin_readers import CARDS
from provisioning.sandbox.stripe_twin_routes import run_due
from tests.contract.provider_subject import Direct
from tests.fakes.provider import Switch
from tests.stripe_twin_here import TwinHere

PAYMENT: Final = "/v1/payment_intents/"
MANY: Final = 1_000
FAULTS: Final[dict[Switch, list[tuple[FaultName, str, str, int]]]] = {
    Switch.FAIL_BEFORE: [("drop_request", "POST", "/v1/payment_intents", 1)],
    # Charged, and nobody can see it: no look gets through, and no withdrawal.
    Switch.FAIL_AFTER: [("drop_request", "GET", PAYMENT, MANY), ("drop_request", "POST", PAYMENT, MANY)],
    Switch.HANG_BEFORE: [("hang", "POST", "/v1/payment_intents", 1)],
    Switch.HANG_AFTER: [("hang", "GET", PAYMENT, MANY)],
    Switch.LIE: [("wrong_amount", "GET", PAYMENT, 1)],
    Switch.OTHER: [("wrong_payment", "GET", PAYMENT, 1)],
}


class ReaderSubject(Direct):
    """The card that an operation names is the card that the customer shows."""

    def __init__(self, twin: TwinHere, inner: StripeProvider, reader: str) -> None:
        self._twin = twin
        self.provider: Holds = _AtReader(twin, inner, reader)

    async def strike(self, switch: Switch) -> None:
        for fault, method, path, times in FAULTS[switch]:
            assert method in ("GET", "POST")
            kind = Fault(fault=fault, path=path, method="GET" if method == "GET" else "POST", times=times)
            if switch in TWIN_AFTERWARDS and self._has_charged():
                kind = Fault(fault=TWIN_AFTERWARDS[switch], path="/v1/", method="POST")
            self._twin.twin.faults.add(kind)

    async def kept_minor(self) -> int:
        return self._twin.kept_minor()

    async def lapse(self) -> None:
        await self._twin.clock.sleep(8 * DAY_MS)  # of a clock that skips
        run_due(self._twin.store)

    async def cut_line(self) -> None:
        await self._twin.cut_line()

    def _has_charged(self) -> bool:
        return bool(self._twin.charges())


TWIN_AFTERWARDS: Final[dict[Switch, FaultName]] = {
    Switch.FAIL_BEFORE: "drop_request",
    Switch.FAIL_AFTER: "drop_reply",
    Switch.LIE: "wrong_amount",
    Switch.OTHER: "wrong_payment",
}
"""Where something is charged or held already, the suite strikes what follows: its refund, capture or cancellation."""


class _AtReader:
    """Satisfies `Holds`."""

    def __init__(self, twin: TwinHere, inner: StripeProvider, reader: str) -> None:
        self._twin = twin
        self._inner = inner
        self._reader = reader

    def patience_ms(self, operation: Operation) -> int:
        return self._inner.patience_ms(self._there(operation))

    def give_up(self, provider_key: ProviderKey) -> None:
        self._inner.give_up(provider_key)

    def hurry(self, reference: ProviderReference) -> bool:
        return self._inner.hurry(reference)

    async def authorise(self, operation: Authorise) -> Answer:
        card = next(number for number, method in CARDS.items() if method == operation.source)
        self._twin.set_customer(self._reader, does="approve", card=card)
        return await self._inner.authorise(replace(operation, source=CardSource(self._reader)))

    async def capture(self, operation: Capture) -> Answer:
        return await self._inner.capture(operation)

    async def refund(self, operation: Refund) -> Answer:
        return await self._inner.refund(operation)

    async def cancel(self, operation: Cancel) -> Answer:
        return await self._inner.cancel(operation)

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        self._twin.twin.faults.clear()  # the line is back
        return await self._inner.find(self._there(operation), since_ms=since_ms, known=known)

    async def close(self) -> None:
        await self._inner.close()

    def _there(self, operation: Operation) -> Operation:
        return replace(operation, source=CardSource(self._reader)) if isinstance(operation, Authorise) else operation
