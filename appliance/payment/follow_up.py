"""Begins an operation on a payment that the provider knows: capture, cancel, refund, reverse, forward, withdraw.

Owns the order: the intent is durable under its guard, only then is the provider asked.
"""

from __future__ import annotations

import asyncio

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderKey
from appliance.model.invariants import present
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.model.payment import Identity
from appliance.model.screening import Verdict
from appliance.payment.drafts import follow_up_draft
from appliance.payment.guards import Idle, Unchanged
from appliance.payment.operate import Operations
from appliance.payment.operation_records import operation_count
from appliance.payment.records import StandingPayment
from appliance.payment.settled import Settled
from appliance.ports.clock import Clock
from appliance.wire import entries


class FollowUp:
    """Returns when the intent is durable; the provider is asked in the background."""

    def __init__(self, *, ledger: Ledger, operations: Operations | None, clock: Clock) -> None:
        self._ledger = ledger
        self._operations = operations
        self._clock = clock

    async def __call__(
        self,
        kind: OperationKind,
        amount_minor: int,
        guard: Unchanged,
        *,
        asked_by: Identity | None,
        refund: entries.RefundFacts | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """Ask the provider to do `kind` with the payment that `guard` saw.

        Args:
            asked_by: None where the box acts by itself, or for a reversal whose request is in the ledger already.
        Raises:
            Rejected: what the guard says; nothing was written.
            Unavailable: nothing was written, or the resolver finds the intent later.
        """
        _ = await self.begun(kind, amount_minor, guard, asked_by=asked_by, refund=refund, verdict=verdict)

    async def begun(
        self,
        kind: OperationKind,
        amount_minor: int,
        guard: Unchanged,
        *,
        asked_by: Identity | None,
        refund: entries.RefundFacts | None = None,
        verdict: Verdict | None = None,
    ) -> asyncio.Future[Settled]:
        """As the call, for whoever wants to hear the end."""
        if self._operations is None:
            raise Unavailable("cards_not_taken", "no card provider is set up on this box")
        standing = guard.standing
        self._operations.require(standing.provider)
        payment = standing.recorded.key
        ordinal = await self._ledger.read(lambda connection: operation_count(connection, payment))
        operation = operation_on(standing, kind, amount_minor, ordinal, self._clock.now_ms(), asked_by=asked_by)
        draft = follow_up_draft(operation, asked_by, refund=refund, verdict=verdict)
        (intent,) = await self._ledger.append([draft], Idle(unchanged=guard), purpose=Purpose.OUTCOME)
        return self._operations.ask(operation, intent.entry_hash)


def operation_on(
    standing: StandingPayment,
    kind: OperationKind,
    amount_minor: int,
    ordinal: int,
    now_ms: int,
    *,
    asked_by: Identity | None,
) -> Operation:
    """The payment's `ordinal`-th operation, on a payment that the provider knows."""
    name = operation_id(standing.recorded.key, ordinal)
    return Operation(
        operation_id=name,
        kind=kind,
        payment_key=standing.recorded.key,
        provider_key=ProviderKey(name),
        money=Money(amount_minor, standing.recorded.currency),
        prepared_ms=now_ms,
        terminal=standing.terminal if asked_by is None else asked_by.terminal,
        target=present(standing.provider_reference, "a confirmed card payment has a provider's reference"),
        source=None,
        request=standing.reversal if asked_by is None else asked_by.key,
        held_minor=standing.held_minor,
        provider=standing.provider,
    )
