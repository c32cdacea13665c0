"""Asks the provider once for each durable intent, and records what it answered.

Rules:
- An operation is asked only after its intent's commit returned; a provider key is never sent a second time. What is
  unclear afterwards is read back by `resolve.py`, never asked again.
- From the intent to the outcome the work runs to its end, whoever hangs up.
- What the provider did is a value here; no error of the provider ever ends a work.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from sqlite3 import Connection
from typing import Final, assert_never

from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Draft, Purpose, Recorded
from appliance.ledger.guard import AllOf
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId, ProviderName, ProviderReference, RequestKey, TerminalId
from appliance.model.invariants import present
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.model.money import Money
from appliance.model.offline import OfflineLimits
from appliance.model.operation import FIRST_PROVIDER, SALES, Operation, OperationKind, OperationState
from appliance.payment.drafts import follow_up_draft, outcome_draft, undone_draft
from appliance.payment.guards import PAYMENT_CHANGED, OperationOpen, Unchanged, require_payment
from appliance.payment.linked import Outlived, outlived_by
from appliance.payment.operation_records import operation_count
from appliance.payment.providers import Providers
from appliance.payment.readers import Readers
from appliance.payment.records import StandingPayment
from appliance.payment.settled import Settled, settle
from appliance.payment.shown import CUSTOMER_ASKED, Shown
from appliance.payment.undo_entry import confirmed_entry
from appliance.payment.vault.vault import Vault
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.stages import Stages
from appliance.runtime.supervise import Supervisor

_RACES_MAX = 5
_NEVER: Final = OfflineLimits()
RECORD_MS_MAX = 30_000
"""How long recording an outcome may wait for the ledger, after the provider's own deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What takes an offer up. Attributes: `guard`, nobody gave the payment up since it was looked at."""

    operation: Operation
    guard: Unchanged


class Operations:
    """Operations that are being asked right now, and the way to start one.

    Attributes:
        providers: who can be asked.
        readers: which card reader is whose, and in use.
        vault: what the provider is told for a source that names a token.
        shown: what customers who are waited for must see.
        offline_limits: how much money may hang on banks that were not asked.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        providers: Providers,
        supervisor: Supervisor,
        clock: Clock,
        log: Log,
        stages: Stages,
        log_origin: str,
        source_default: str,
        readers: Readers,
        vault: Vault,
        capture_window_ms: int,
        offline_limits: OfflineLimits = _NEVER,
    ) -> None:
        self._ledger = ledger
        self.providers = providers
        self.shown = Shown()
        self._supervisor = supervisor
        self._clock = clock
        self._log = log
        self._stages = stages
        self._log_origin = log_origin
        self._source_default = source_default
        self.readers = readers
        self.offline_limits = offline_limits
        self.vault = vault
        self._running: dict[OperationId, Operation] = {}
        self._capture_window_ms = capture_window_ms

    def is_running(self, operation_id: OperationId) -> bool:
        """True while the provider's answer is awaited or being recorded; the resolver keeps away."""
        return operation_id in self._running

    def start(self, operation: Operation, intent_hash: bytes) -> None:
        """Ask the provider in the background. Raises Unavailable when stopping: the resolver finds the intent later."""
        _ = self.ask(operation, intent_hash)

    def ask(self, operation: Operation, intent_hash: bytes) -> asyncio.Future[Settled]:
        """As `start`, for whoever wants to hear the end."""
        patience_ms = self._patience_ms(operation)
        self._running[operation.operation_id] = operation
        try:
            return self._supervisor.begin(
                f"operation {operation.operation_id}",
                lambda: self._run(operation, intent_hash),
                bound_ms=patience_ms + RECORD_MS_MAX,
            )
        except BaseException:
            del self._running[operation.operation_id]
            raise

    def give_up(self, payment: RequestKey) -> None:
        """Wait no longer for the customer of `payment`, if one is waited for."""
        for operation in self._running.values():
            if operation.payment_key == payment and operation.kind in SALES:
                self.providers.give_up(operation)

    def require(self, provider: ProviderName) -> None:
        """Raises Unavailable `provider_not_configured`: the settings no longer name who was asked."""
        self.providers.require(provider)

    def stop_waiting(self) -> None:
        """The process ends: no customer is waited for any longer."""
        for operation in self._running.values():
            self.providers.give_up(operation)

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None
    ) -> port.Found | port.Absent | port.Unknown:
        """Read back what became of `operation`; never moves money."""
        try:
            async with asyncio.timeout(PROVIDER_DEADLINE_MS / 1_000):
                if operation.kind is OperationKind.OFFER:
                    return await self._find_offer(operation, known)
                provider = self.providers.require(operation.provider)
                return await provider.find(self._question(operation), since_ms=since_ms, known=known)
        except Unavailable as trouble:
            return port.Unknown(reason=trouble.code)
        except TimeoutError:
            return port.Unknown(reason="deadline_passed")

    async def _find_offer(self, operation: Operation, known: ProviderReference | None) -> port.Found | port.Unknown:
        """Whether a customer agreed whom nobody waits for any more, as after a power cut."""
        offers = self.providers.offers(operation.provider)
        if known is None:
            # Its name is recorded with its address: at most it was seen for a moment. That we never took it up is
            # certain too, because taking has an intent of its own.
            no = port.Declined(code="offer_not_shown", message="The customer was not asked.", basis=port.Basis.OWN_LOG)
            return port.Found(answer=no)
        answer = await offers.look_at_offer(self._offer_of(operation), known)
        return answer if isinstance(answer, port.Unknown) else port.Found(answer=answer)

    async def record(self, operation: Operation, settled: Settled, intent_hash: bytes) -> None:
        """Write the outcome, once; with a confirmed refund or reversal goes the entry that says what was given."""
        now_ms = self._clock.now_ms()
        taking: Taking | None = None
        if operation.kind is OperationKind.OFFER and settled.state is OperationState.CONFIRMED:
            taking = await self._taking(operation, settled)
            settled = settled if taking is not None else _ABORTED
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
                took_minor=settled.took_minor,
                settled=settled.moved,
            )
        ]
        if is_confirmed and _takes_back(operation):
            body = await self._ledger.read(
                lambda connection: confirmed_entry(connection, operation), purpose=Purpose.OUTCOME
            )
            drafts.append(undone_draft(operation.kind, operation.terminal, body, None, now_ms))
        if taking is not None:
            # One commit: the customer agreed, and the money is to be taken under this name and no other.
            drafts.append(follow_up_draft(taking.operation, None))
        guard = OperationOpen(
            operation_id=operation.operation_id, may_be_unknown=settled.state is not OperationState.UNKNOWN
        )
        try:
            is_sold = is_confirmed or settled.state is OperationState.ACCEPTED
            if is_sold and operation.kind in SALES and operation.is_retry and taking is None:
                await self._record_sold(operation, drafts[0], guard)
                written: tuple[Recorded, ...] = ()
            else:
                guards = (guard,) if taking is None else (guard, taking.guard)
                written = await self._ledger.append(drafts, AllOf(guards=guards), purpose=Purpose.OUTCOME)
        except Rejected as refusal:
            # The resolver was faster: its outcome rests on the same provider, so there is nothing to add.
            self._log.info("outcome.superseded", operation=operation.operation_id, code=refusal.code)
            return
        self._log.info(
            "operation.settled", operation=operation.operation_id, state=settled.state.value, code=settled.code or ""
        )
        if taking is not None:
            try:
                self.start(taking.operation, written[-1].entry_hash)
            except Unavailable as stopping:
                self._log.info("taking.postponed", operation=taking.operation.operation_id, code=stopping.code)

    async def _taking(self, offer: Operation, settled: Settled) -> Taking | None:
        """How to take what the customer agreed to; None: the till gave the payment up meanwhile."""
        payment = offer.payment_key

        def look(connection: Connection) -> tuple[StandingPayment, int]:
            return require_payment(connection, payment), operation_count(connection, payment)

        standing, ordinal = await self._ledger.read(look, purpose=Purpose.OUTCOME)
        if standing.reversal is not None:
            return None
        target = present(settled.reference, "a customer agreed to something that has a name")
        operation = offer.agreed(ordinal, self._clock.now_ms(), target)
        return Taking(operation=operation, guard=Unchanged(standing=standing, fresh=None))

    async def _record_sold(self, operation: Operation, outcome: Draft, guard: OperationOpen) -> None:
        """One commit: the payment stands exactly when the earlier tries of its sale must not."""

        async def attempt() -> Outlived:
            outlived = await self._ledger.read(
                lambda found: outlived_by(found, operation.payment_key, outcome), purpose=Purpose.OUTCOME
            )
            drafts = [outcome, *outlived.drafts]
            await self._ledger.append(drafts, AllOf(guards=(guard, outlived.guard)), purpose=Purpose.OUTCOME)
            return outlived

        busy = Unavailable("payment_busy", "an earlier try keeps changing; the resolver records it")
        for payment in (await look_again(attempt, after=PAYMENT_CHANGED, times_max=_RACES_MAX, busy=busy)).keys:
            self.give_up(payment)

    async def _run(self, operation: Operation, intent_hash: bytes) -> Settled:
        try:
            with self._stages(operation.kind.value, operation.payment_key):
                answer = await self._answer(operation, intent_hash)
            settled = settle(operation, answer)
            await self.record(operation, settled, intent_hash)
            return settled
        finally:
            del self._running[operation.operation_id]
            self.shown.forget(operation.payment_key)
            if not any(each.payment_key == operation.payment_key for each in self._running.values()):
                # An offer's money is taken at the same reader: it is let go when that has its end.
                self.readers.release(operation.payment_key)

    async def _answer(self, operation: Operation, intent_hash: bytes) -> port.Answer:
        if operation.kind is OperationKind.OFFER:
            return await self._offer(operation, intent_hash)
        return await self._ask(operation, partial(self._show, operation, intent_hash=intent_hash))

    async def _offer(self, operation: Operation, intent_hash: bytes) -> port.Answer:
        """Let the customer agree, who pays nothing by that."""
        offers, question = self.providers.offers(operation.provider), self._offer_of(operation)
        made: port.Offered | port.Answer = port.Unknown(reason="deadline_passed")
        with suppress(TimeoutError):
            async with asyncio.timeout(PROVIDER_DEADLINE_MS / 1_000):
                made = await offers.offer(question)
        if isinstance(made, port.Unknown):
            # Nobody saw it and nothing takes it up: whether it was made does not matter.
            return port.NotSent(reason=made.reason)
        if not isinstance(made, port.Offered):
            return made
        reference = made.provider_reference
        await self._show(operation, made, intent_hash)
        try:
            async with asyncio.timeout((offers.customer_ms + PROVIDER_DEADLINE_MS) / 1_000):
                return await offers.await_customer(question, reference)
        except TimeoutError:
            return port.Unknown(reason="deadline_passed", provider_reference=reference)

    async def _show(self, operation: Operation, made: port.Offered, intent_hash: bytes) -> None:
        """Record the name of what the customer must see, so that a restart looks at it; from then on it is shown."""
        if made.show is not None:
            self.shown.put(operation.payment_key, made.show)
        asked = Settled(state=OperationState.UNKNOWN, reference=made.provider_reference, code=CUSTOMER_ASKED)
        await self.record(operation, asked, intent_hash)

    def _patience_ms(self, operation: Operation) -> int:
        if operation.kind is OperationKind.OFFER:
            return self.providers.offers(operation.provider).customer_ms + 2 * PROVIDER_DEADLINE_MS + RECORD_MS_MAX
        return self.providers.require(operation.provider).patience_ms(self._question(operation))

    async def _ask(self, operation: Operation, show: port.Show | None = None) -> port.Answer:
        question, provider = self._question(operation), self.providers.require(operation.provider)
        try:
            async with asyncio.timeout(provider.patience_ms(question) / 1_000):
                match question:
                    case port.Authorise():
                        return await self.vault.authorise(provider, replace(question, show=show), operation)
                    case port.Refund():
                        return await provider.refund(question)
                    case port.Forward():
                        return await _ask_forwards(self.providers.forwards(operation.provider), question)
                    case port.Cancel() if operation.kind is OperationKind.WITHDRAW:
                        return await _ask_forwards(self.providers.forwards(operation.provider), question)
                    case port.Capture() | port.Cancel():
                        return await _ask_held(self.providers.holds(operation.provider), question)
                    case _:
                        assert_never(question)
        except TimeoutError:
            return port.Unknown(reason="deadline_passed")

    def _reference(self, operation: Operation) -> port.Reference:
        return port.Reference(
            log_origin=self._log_origin,
            payment_key=operation.payment_key,
            operation_id=operation.operation_id,
            terminal_id=TerminalId(operation.terminal),
        )

    def _default_of(self, provider: ProviderName) -> str:
        return self._source_default if provider == FIRST_PROVIDER else ""

    def _offer_of(self, operation: Operation) -> port.Offer:
        return port.Offer(
            provider_key=operation.provider_key, reference=self._reference(operation), amount=operation.money
        )

    def _question(self, operation: Operation) -> port.Operation:
        reference = self._reference(operation)
        key, amount, of = operation.provider_key, operation.money, ProviderReference(operation.target or "")
        match operation.kind:
            case OperationKind.AUTHORISE | OperationKind.RESERVE | OperationKind.OFFER:
                return port.Authorise(
                    provider_key=key,
                    reference=reference,
                    amount=amount,
                    source=port.CardSource(operation.source or self._default_of(operation.provider)),
                    is_captured_later=operation.kind is OperationKind.RESERVE,
                    of=None if operation.target is None else ProviderReference(operation.target),
                    may_accept_offline=operation.may_accept_offline,
                    may_be_partial=operation.may_be_partial,
                )
            case OperationKind.CAPTURE:
                held = Money(operation.held_minor, amount.currency)
                return port.Capture(provider_key=key, reference=reference, amount=amount, held=held, of=of)
            case OperationKind.FORWARD:
                return port.Forward(provider_key=key, reference=reference, amount=amount, of=of)
            case OperationKind.CANCEL | OperationKind.WITHDRAW:
                return port.Cancel(provider_key=key, reference=reference, amount=amount, of=of)
            case OperationKind.REFUND | OperationKind.REVERSE:
                # A reversal of money that was taken gives it back like a refund.
                return port.Refund(provider_key=key, reference=reference, amount=amount, of=of)
            case _:
                assert_never(operation.kind)


async def _ask_held(holds: port.Holds | None, question: port.Capture | port.Cancel) -> port.Answer:
    if holds is None:
        return port.Refused(code="holds_nothing", detail="this provider takes money at once or not at all")
    if isinstance(question, port.Capture):
        return await holds.capture(question)
    return await holds.cancel(question)


async def _ask_forwards(forwards: port.Forwards | None, question: port.Forward | port.Cancel) -> port.Answer:
    if forwards is None:
        return port.Refused(code="accepts_nothing_offline", detail="this provider takes no card without its bank")
    if isinstance(question, port.Forward):
        return await forwards.forward(question)
    return await forwards.cancel(question)


_ABORTED: Final = Settled(state=OperationState.REJECTED, reference=None, code="payment_aborted")


def _takes_back(operation: Operation) -> bool:
    """Whether its confirmation is told by an entry of a refund or reversal; an authorisation that expired has none."""
    if operation.kind is OperationKind.CANCEL:
        return operation.request is not None
    return operation.kind in (OperationKind.REFUND, OperationKind.REVERSE, OperationKind.WITHDRAW)
