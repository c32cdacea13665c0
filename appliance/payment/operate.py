"""Asks the provider once for each durable intent, and records what it answered.

Rules:
- An operation is asked only after its intent's commit returned; a provider key is never sent a second time. What is
  unclear afterwards is read back by `resolve.py`, never asked again.
- From the intent to the outcome the work runs to its end, whoever hangs up.
- What the provider did is a value here; no error of the provider ever ends a work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.guard import AllOf
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId, ProviderReference, RequestKey, TerminalId
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.model.money import Money
from appliance.model.operation import SALES, Operation, OperationKind, OperationState
from appliance.payment.drafts import outcome_draft, undone_draft
from appliance.payment.guards import PAYMENT_CHANGED, OperationOpen
from appliance.payment.linked import Outlived, outlived_by
from appliance.payment.readers import Readers
from appliance.payment.undo_entry import confirmed_entry
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.stages import Stages
from appliance.runtime.supervise import Supervisor

_RACES_MAX = 5
RECORD_MS_MAX = 30_000
"""How long recording an outcome may wait for the ledger, after the provider's own deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What is to be recorded about an operation.

    Attributes:
        done_ms: the provider's clock when it did what is confirmed.
    """

    state: OperationState
    reference: ProviderReference | None
    code: str | None
    done_ms: int | None = None


class Operations:
    """Operations that are being asked right now, and the way to start one.

    Attributes:
        readers: which card reader is whose, and in use.
        admit: raises Unavailable when the provider is known to refuse this box: no new card payment is begun.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        provider: port.Provider,
        supervisor: Supervisor,
        clock: Clock,
        log: Log,
        stages: Stages,
        log_origin: str,
        source_default: str,
        readers: Readers,
        admit: Callable[[], None],
        capture_window_ms: int,
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._supervisor = supervisor
        self._clock = clock
        self._log = log
        self._stages = stages
        self._log_origin = log_origin
        self._source_default = source_default
        self.readers = readers
        self.admit = admit
        self._running: dict[OperationId, Operation] = {}
        self._capture_window_ms = capture_window_ms

    def is_running(self, operation_id: OperationId) -> bool:
        """True while the provider's answer is awaited or being recorded; the resolver keeps away."""
        return operation_id in self._running

    def start(self, operation: Operation, intent_hash: bytes) -> None:
        """Ask the provider in the background. Raises Unavailable when stopping: the resolver finds the intent later."""
        self._running[operation.operation_id] = operation
        try:
            _ = self._supervisor.begin(
                f"operation {operation.operation_id}",
                lambda: self._run(operation, intent_hash),
                bound_ms=self._provider.patience_ms(self._question(operation)) + RECORD_MS_MAX,
            )
        except BaseException:
            del self._running[operation.operation_id]
            raise

    def give_up(self, payment: RequestKey) -> None:
        """Wait no longer for the customer of `payment`, if one is waited for."""
        for operation in self._running.values():
            if operation.payment_key == payment and operation.kind in SALES:
                self._provider.give_up(operation.provider_key)

    def hurry(self, reference: ProviderReference) -> bool:
        """Look at once at what a provider's webhook speaks of; False when nobody awaits an answer about it."""
        return self._provider.hurry(reference)

    def stop_waiting(self) -> None:
        """The process ends: no customer is waited for any longer."""
        for operation in self._running.values():
            self._provider.give_up(operation.provider_key)

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None
    ) -> port.Found | port.Absent | port.Unknown:
        """Read back what became of `operation`; never moves money."""
        try:
            async with asyncio.timeout(PROVIDER_DEADLINE_MS / 1_000):
                return await self._provider.find(self._question(operation), since_ms=since_ms, known=known)
        except TimeoutError:
            return port.Unknown(reason="deadline_passed")

    async def record(self, operation: Operation, settled: Settled, intent_hash: bytes) -> None:
        """Write the outcome, once; with a confirmed refund or reversal goes the entry that says what was given."""
        now_ms = self._clock.now_ms()
        is_confirmed = settled.state is OperationState.CONFIRMED
        is_held = is_confirmed and operation.kind is OperationKind.RESERVE
        # By the provider's clock, which is what the bank goes by: ours may have been wrong at the intent, and an answer
        # that was found late must not make an authorisation look younger.
        held_ms = operation.prepared_ms if settled.done_ms is None else settled.done_ms
        capture_before_ms = held_ms + self._capture_window_ms if is_held else None
        drafts = [
            outcome_draft(
                operation,
                settled.state,
                intent_hash,
                now_ms,
                reference=settled.reference,
                code=settled.code,
                capture_before_ms=capture_before_ms,
            )
        ]
        if is_confirmed and _takes_back(operation):
            body = await self._ledger.read(lambda connection: confirmed_entry(connection, operation))
            drafts.append(undone_draft(operation.kind, operation.terminal, body, None, now_ms))
        guard = OperationOpen(
            operation_id=operation.operation_id, may_be_unknown=settled.state is not OperationState.UNKNOWN
        )
        try:
            if is_confirmed and operation.kind in SALES:
                await self._record_sold(operation, drafts[0], guard)
            else:
                await self._ledger.append(drafts, guard, purpose=Purpose.OUTCOME)
        except Rejected as refusal:
            # The resolver was faster: its outcome rests on the same provider, so there is nothing to add.
            self._log.info("outcome.superseded", operation=operation.operation_id, code=refusal.code)
            return
        self._log.info(
            "operation.settled", operation=operation.operation_id, state=settled.state.value, code=settled.code or ""
        )

    async def _record_sold(self, operation: Operation, outcome: Draft, guard: OperationOpen) -> None:
        """One commit: the payment stands exactly when the earlier tries of its sale must not."""

        async def attempt() -> Outlived:
            outlived = await self._ledger.read(lambda found: outlived_by(found, operation.payment_key, outcome))
            drafts = [outcome, *outlived.drafts]
            await self._ledger.append(drafts, AllOf(guards=(guard, outlived.guard)), purpose=Purpose.OUTCOME)
            return outlived

        busy = Unavailable("payment_busy", "an earlier try keeps changing; the resolver records it")
        for payment in (await look_again(attempt, after=PAYMENT_CHANGED, times_max=_RACES_MAX, busy=busy)).keys:
            self.give_up(payment)

    async def _run(self, operation: Operation, intent_hash: bytes) -> None:
        try:
            with self._stages(operation.kind.value, operation.payment_key):
                answer = await self._ask(operation)
            await self.record(operation, settle(operation.kind, answer), intent_hash)
        finally:
            del self._running[operation.operation_id]
            self.readers.release(operation.payment_key)

    async def _ask(self, operation: Operation) -> port.Answer:
        question = self._question(operation)
        try:
            async with asyncio.timeout(self._provider.patience_ms(question) / 1_000):
                match question:
                    case port.Authorise():
                        return await self._provider.authorise(question)
                    case port.Capture():
                        return await self._provider.capture(question)
                    case port.Refund():
                        return await self._provider.refund(question)
                    case port.Cancel():
                        return await self._provider.cancel(question)
                    case _:
                        assert_never(question)
        except TimeoutError:
            return port.Unknown(reason="deadline_passed")

    def _question(self, operation: Operation) -> port.Operation:
        reference = port.Reference(
            log_origin=self._log_origin,
            payment_key=operation.payment_key,
            operation_id=operation.operation_id,
            terminal_id=TerminalId(operation.terminal),
        )
        key, amount, of = operation.provider_key, operation.money, ProviderReference(operation.target or "")
        match operation.kind:
            case OperationKind.AUTHORISE | OperationKind.RESERVE:
                return port.Authorise(
                    provider_key=key,
                    reference=reference,
                    amount=amount,
                    source=port.CardSource(operation.source or self._source_default),
                    is_captured_later=operation.kind is OperationKind.RESERVE,
                )
            case OperationKind.CAPTURE:
                held = Money(operation.held_minor, amount.currency)
                return port.Capture(provider_key=key, reference=reference, amount=amount, held=held, of=of)
            case OperationKind.CANCEL:
                return port.Cancel(provider_key=key, reference=reference, amount=amount, of=of)
            case OperationKind.REFUND | OperationKind.REVERSE:
                # A reversal of money that was taken gives it back like a refund.
                return port.Refund(provider_key=key, reference=reference, amount=amount, of=of)
            case _:
                assert_never(operation.kind)


def _takes_back(operation: Operation) -> bool:
    """Whether its confirmation is told by an entry of a refund or reversal; an authorisation that expired has none."""
    if operation.kind is OperationKind.CANCEL:
        return operation.request is not None
    return operation.kind in (OperationKind.REFUND, OperationKind.REVERSE)


def settle(kind: OperationKind, answer: port.Answer) -> Settled:
    """What the ledger says after the first and only time of asking."""
    match answer:
        case port.Confirmed():
            return Settled(
                state=OperationState.CONFIRMED,
                reference=answer.provider_reference,
                code=None,
                done_ms=answer.confirmed_ms,
            )
        case port.Declined():
            return Settled(state=OperationState.REJECTED, reference=answer.provider_reference, code=answer.code)
        case port.Refused():
            return Settled(state=OperationState.REJECTED, reference=None, code=answer.code)
        case port.NotSent() if kind in SALES:
            return Settled(state=OperationState.ABSENT, reference=None, code="provider_unreachable")
        case port.NotSent():
            # It was asked for and must still be done: being checked until the resolver starts a new operation.
            return Settled(state=OperationState.UNKNOWN, reference=None, code="provider_unreachable")
        case port.Unknown():
            return Settled(state=OperationState.UNKNOWN, reference=answer.provider_reference, code=answer.reason)
        case _:
            assert_never(answer)
