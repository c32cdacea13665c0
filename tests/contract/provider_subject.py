"""Providers that the contract suite runs on, each with a way to break it and a money oracle."""

from __future__ import annotations

from typing import Final, Protocol

from appliance.model.limits import DAY_MS
from appliance.ports.provider import Authorise, Holds, Provider
from provisioning.sandbox.stripe_twin_faults import FaultName
from tests.fakes.clock import FakeClock
from tests.fakes.provider import FakeProvider, Switch
from tests.stripe_twin import TwinProcess

TWIN_FAULTS: Final[dict[Switch, FaultName]] = {
    Switch.FAIL_BEFORE: "drop_request",
    Switch.FAIL_AFTER: "drop_reply",
    Switch.HANG_BEFORE: "hang",
    Switch.HANG_AFTER: "hang_after_processing",
    Switch.LIE: "wrong_amount",
    Switch.OTHER: "wrong_payment",
}


class Subject(Protocol):
    """A provider, a way to break it, and the money oracle."""

    provider: Provider
    remembers_declines: bool
    knows_what_is_left: bool

    async def ready(self, operation: Authorise) -> Authorise:
        """`operation` as it can be asked: where customers agree first, one did."""
        ...

    def code_of(self, code: str) -> str:
        """What the provider calls a decline."""
        ...

    async def strike(self, switch: Switch) -> None: ...
    async def kept_minor(self) -> int: ...
    async def cut_line(self) -> None: ...


class HoldingSubject(Subject, Protocol):
    """A provider that can have money held, and days that pass until it is held no longer."""

    provider: Holds

    async def lapse(self) -> None: ...


class Direct:
    """Takes money without asking anybody first."""

    remembers_declines = True
    knows_what_is_left = True

    async def ready(self, operation: Authorise) -> Authorise:
        return operation

    def code_of(self, code: str) -> str:
        return code


class FakeSubject(Direct):
    def __init__(self) -> None:
        self.fake = FakeProvider(clock=FakeClock())
        self.provider: Holds = self.fake

    async def strike(self, switch: Switch) -> None:
        self.fake.strike(switch)

    async def kept_minor(self) -> int:
        return self.fake.charged_minor()

    async def cut_line(self) -> None:
        self.fake.strike(Switch.NOT_SENT)

    async def lapse(self) -> None:
        self.fake.lapse()


class StripeSubject(Direct):
    def __init__(self, twin: TwinProcess, provider: Holds) -> None:
        self.twin = twin
        self.provider = provider

    async def strike(self, switch: Switch) -> None:
        await self.twin.fault(TWIN_FAULTS[switch], method="POST")

    async def kept_minor(self) -> int:
        return sum(charge["captured"] - charge["refunded"] for charge in await self.twin.charges())

    async def cut_line(self) -> None:
        self.twin.kill()

    async def lapse(self) -> None:
        await self.twin.advance(8 * DAY_MS)
