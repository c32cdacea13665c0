"""Gives money of a payment back: cash from the drawer is one entry, a card's part an operation of its own.

Owns what is written; whether it may be given is decided by the caller and held by the guard.
"""

from __future__ import annotations

from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderKey, RequestKey
from appliance.model.invariants import ensure
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.model.payment import Identity
from appliance.payment.drafts import undo_intent_draft, undone_draft
from appliance.payment.guards import Unchanged
from appliance.payment.operate import Operations
from appliance.payment.records import StandingPayment, operation_count
from appliance.payment.undo_entry import undo_entry
from appliance.ports.clock import Clock
from appliance.wire import entries


class GiveBack:
    """Starts giving back; what a provider has to do goes on in the background."""

    def __init__(self, *, ledger: Ledger, operations: Operations | None, clock: Clock) -> None:
        self._ledger = ledger
        self._operations = operations
        self._clock = clock

    async def __call__(
        self,
        kind: OperationKind,
        standing: StandingPayment,
        facts: entries.RefundFacts,
        guard: Unchanged,
        *,
        asked_by: Identity | None,
    ) -> None:
        """Return when it is durable that `facts` are given back.

        Args:
            kind: refund or reverse.
            asked_by: None for a reversal whose request is in the ledger already.
        Raises:
            Rejected: what the guard says; nothing was written.
            Unavailable: nothing was written, or the resolver finds the intent later.
        """
        now_ms = self._clock.now_ms()
        terminal = standing.terminal if asked_by is None else asked_by.terminal
        request = standing.reversal if asked_by is None else asked_by.key
        if facts.card == 0:
            body = undo_entry(standing, facts, operation=None, request=None if asked_by else request)
            await self._append(undone_draft(kind, terminal, body, asked_by, now_ms), guard)
            return
        if self._operations is None:
            raise Unavailable("cards_not_taken", "no card provider is set up on this box")
        payment = standing.recorded.key
        ordinal = await self._ledger.read(lambda connection: operation_count(connection, payment))
        operation = _operation(standing, kind, facts.card, ordinal, request, terminal, now_ms)
        is_refund = kind is OperationKind.REFUND
        intent = await self._append(undo_intent_draft(operation, asked_by, facts if is_refund else None), guard)
        self._operations.start(operation, intent)

    async def _append(self, draft: Draft, guard: Unchanged) -> bytes:
        (entry,) = await self._ledger.append([draft], guard, purpose=Purpose.OUTCOME)
        return entry.entry_hash


def _operation(
    standing: StandingPayment,
    kind: OperationKind,
    card_minor: int,
    ordinal: int,
    request: RequestKey | None,
    terminal: str,
    now_ms: int,
) -> Operation:
    ensure(standing.provider_reference is not None, "a charged payment has a provider's reference")
    name = operation_id(standing.recorded.key, ordinal)
    return Operation(
        operation_id=name,
        kind=kind,
        payment_key=standing.recorded.key,
        provider_key=ProviderKey(name),
        money=Money(card_minor, standing.recorded.currency),
        prepared_ms=now_ms,
        terminal=terminal,
        target=standing.provider_reference,
        source=None,
        request=request,
    )
