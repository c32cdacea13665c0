"""The PIN pad twin on a port of this machine, and our adapter pointed at it. Holds no test."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from appliance.adapters.pin_pad import Later, PinPadProvider
from appliance.adapters.pin_pad_line import PadSettings
from appliance.config.secret import Secret
from appliance.model.ids import OperationId, ProviderReference, TerminalId
from appliance.ports.clock import Clock
from provisioning.sandbox.pin_pad_twin import PinPadTwin, TakenPayment
from provisioning.sandbox.printer_twin import on_tcp, on_terminal
from tests.fakes.clock import FakeClock

PAD: Final = "counter"
LONG_S: Final = 30.0
"""A busy machine answers late; only tests of silence are in a hurry."""


@dataclass(slots=True)
class PadLogHere:
    """What a ledger would know: names and marks, in the order in which things were begun."""

    begun: list[tuple[OperationId, ProviderReference | None]] = field(default_factory=list)
    names: dict[OperationId, ProviderReference] = field(default_factory=dict)

    def begin(self, operation: OperationId, mark: ProviderReference | None) -> None:
        """An intent is durable. `mark`: what a payment was read before; a refund has none."""
        self.begun.append((operation, mark))
        if mark is not None:
            self.names.setdefault(operation, mark)

    def knows(self, operation: OperationId) -> bool:
        """Its intent is durable."""
        return operation in [each for each, _ in self.begun]

    async def before(self, _pad: str, operation: OperationId) -> ProviderReference | None:
        order = [each for each, _ in self.begun]
        at = order.index(operation) if operation in order else len(order)
        names = [self.names[each] for each in order[:at] if each in self.names]
        earlier = [each for each in names if not each.endswith("/none")]
        return earlier[-1] if earlier else None

    async def after(self, _pad: str, operation: OperationId) -> Later | None:
        order = [each for each, _ in self.begun]
        at = order.index(operation) + 1 if operation in order else 0
        return Later(mark=self.begun[at][1]) if at < len(order) else None


class PinPadHere:
    """Use as a context."""

    def __init__(self, *, kind: str = "tcp", clock: Clock | None = None) -> None:
        self.clock = FakeClock() if clock is None else clock
        self.twin = PinPadTwin(is_framed=kind == "pty")
        self.log = PadLogHere()
        self._kind = kind
        self._served = ExitStack()
        self._providers: list[PinPadProvider] = []
        self.address = ""

    async def __aenter__(self) -> Self:
        serve = on_terminal if self._kind == "pty" else on_tcp
        self.address = self._served.enter_context(serve(self.twin.take, opened=self.twin.mend_line))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()
        await self.cut_line()

    async def anew(self) -> PinPadProvider:
        """The box was started again: the line is let go, and nothing is remembered."""
        await self.end()
        return self.provider()

    async def end(self) -> None:
        """Close every adapter."""
        for provider in self._providers:
            await provider.close()
        self._providers.clear()

    async def cut_line(self) -> None:
        """Nobody listens here any more."""
        await asyncio.to_thread(self._served.close)

    def use_by_hand(self, amount_minor: int) -> int:
        """Somebody pays at the PIN pad without the box; the amount."""
        self.twin.trace += 1
        paid = TakenPayment(amount=f"{amount_minor:012d}", trace=self.twin.trace, receipt=self.twin.trace)
        self.twin.taken.append(paid)
        return amount_minor

    def provider(self, *, answer_s: float = LONG_S, customer_s: float = LONG_S, **more: Any) -> PinPadProvider:
        """Our adapter, pointed here; closed with the twin."""
        pad = PadSettings(
            name=PAD,
            address=self.address,
            baud=9_600,
            password=Secret(b"000000"),
            currency=978,
            answer_s=answer_s,
            customer_s=customer_s,
            **more,
        )
        bound = {TerminalId("till-1"): PAD, TerminalId("till-2"): PAD}
        provider = PinPadProvider(pads=[pad], bound=bound, currency="EUR", log=self.log, clock=self.clock)
        self._providers.append(provider)
        return provider
