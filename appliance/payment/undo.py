"""Refund, reversal and abort: the three ways a terminal takes a payment back.

    refund    an approved payment is given back, each tender the way it came
    reversal  a payment must not stand: whatever became of it, in the end no money is kept
    abort     a payment is stopped before it is approved

A reversal or abort of a key never seen writes a tombstone: should the payment still come, it is refused. The guards run
in the writer's transaction, so of two terminals that undo one payment, one wins.
"""

from __future__ import annotations

import sqlite3

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.model.operation import OperationKind
from appliance.model.payment import AuthenticatedRequest, Identity, PaymentState
from appliance.payment.card_data import refuse_card_numbers
from appliance.payment.drafts import ask, draft, undo_intent_draft, undone_draft
from appliance.payment.guards import StillOpen, Undoable, Unseen, require_undoable, unused
from appliance.payment.operate import Operations
from appliance.payment.records import KnownRequest, StandingPayment, find_payment, find_request, operation_count
from appliance.payment.repeats import judge, judge_used
from appliance.payment.undo_entry import undo_entry, undo_operation
from appliance.ports.clock import Clock
from appliance.wire import entries
from appliance.wire.requests import AbortBody, RefundBody, ReversalBody

_RACES_MAX = 5
_NOTHING_TO_UNDO = (PaymentState.DECLINED, PaymentState.NOT_CHARGED, PaymentState.CANCELLED, PaymentState.REVERSED)


class Undo:
    """The three verbs. Each returns when its effect is durable; a card's part goes on in the background."""

    def __init__(self, *, ledger: Ledger, operations: Operations | None, clock: Clock) -> None:
        self._ledger = ledger
        self._operations = operations
        self._clock = clock

    async def refund(self, request: AuthenticatedRequest[RefundBody]) -> RequestKey:
        """Give an approved payment back; returns the payment's key.

        Raises:
            Rejected: unknown, open, already undone, or it took no money.
        """
        refuse_card_numbers((request.body.reason,))
        payment = request_key(request.body.of)
        known, standing = await self._look(request.identity.key, payment)
        await judge(self._ledger, request.identity, payment, known)
        if standing is None:
            raise Rejected("payment_unknown", "no payment with this key is in the ledger")
        require_undoable(standing)
        try:
            await self._give_back(request.identity, standing, "refund", request.body.reason)
        except Rejected as refusal:
            raise await judge_used(self._ledger, request.identity, payment, refusal) from None
        return payment

    async def reverse(self, request: AuthenticatedRequest[ReversalBody]) -> RequestKey:
        """Make sure that in the end no money of the payment is kept; returns the payment's key."""
        return await self._until_settled(request, "reversal", request.body.reason)

    async def abort(self, request: AuthenticatedRequest[AbortBody]) -> RequestKey:
        """Stop a payment that is not approved yet; returns the payment's key.

        Raises:
            Rejected: `payment_complete`: it is approved; refund or reverse it.
        """
        return await self._until_settled(request, "abort", "")

    async def _until_settled(
        self, request: AuthenticatedRequest[ReversalBody] | AuthenticatedRequest[AbortBody], verb: str, reason: str
    ) -> RequestKey:
        refuse_card_numbers((reason,))
        payment = request_key(request.body.of)
        for _ in range(_RACES_MAX):
            known, standing = await self._look(request.identity.key, payment)
            await judge(self._ledger, request.identity, payment, known)
            try:
                await self._reverse_as_it_stands(request.identity, payment, standing, verb, reason)
            except Rejected as refusal:
                if refusal.code != "payment_changed":
                    raise await judge_used(self._ledger, request.identity, payment, refusal) from None
                continue  # the payment came, or its outcome did, between our look and our write: look again
            return payment
        raise Unavailable("payment_busy", "the payment keeps changing; ask again")

    async def _reverse_as_it_stands(
        self,
        identity: Identity,
        payment: RequestKey,
        standing: StandingPayment | None,
        verb: str,
        reason: str,
    ) -> None:
        fresh = unused(identity.key)
        asked, disclosures = ask(identity, ())
        now_ms = self._clock.now_ms()
        if standing is None:
            body = entries.TombstoneEntry(asked=asked, payment=payment.octets)
            tombstone = draft(entries.TOMBSTONE, identity.terminal, now_ms, body, disclosures)
            await self._ledger.append([tombstone], Unseen(fresh=fresh, payment=payment), purpose=Purpose.OUTCOME)
        elif standing.recorded.state is PaymentState.CHECKING:
            wanted = entries.ReversalWantedEntry(asked=asked, payment=payment.octets)
            entry = draft(entries.REVERSAL_WANTED, identity.terminal, now_ms, wanted, disclosures)
            await self._ledger.append([entry], StillOpen(fresh=fresh, payment=payment), purpose=Purpose.OUTCOME)
            if self._operations is not None:
                self._operations.give_up(payment)
        elif standing.recorded.state not in _NOTHING_TO_UNDO:
            if verb == "abort":
                raise Rejected("payment_complete", "the payment is approved; refund or reverse it")
            require_undoable(standing)
            await self._give_back(identity, standing, "reversal", reason)

    async def _give_back(self, identity: Identity, standing: StandingPayment, verb: str, reason: str) -> None:
        payment = standing.recorded.key
        now_ms = self._clock.now_ms()
        guard = Undoable(fresh=unused(identity.key), payment=payment)
        if standing.card_minor == 0:
            entry = undone_draft(verb, identity.terminal, undo_entry(standing, None, reason), identity, now_ms)
            await self._ledger.append([entry], guard, purpose=Purpose.OUTCOME)
            return
        if self._operations is None:
            raise Unavailable("cards_not_taken", "no card provider is set up on this box")
        ordinal = await self._ledger.read(lambda connection: operation_count(connection, payment))
        kind = OperationKind.REFUND if verb == "refund" else OperationKind.REVERSE
        operation = undo_operation(standing, kind, ordinal, identity.terminal, now_ms)
        (intent,) = await self._ledger.append([undo_intent_draft(operation, identity)], guard, purpose=Purpose.OUTCOME)
        self._operations.start(operation, intent.entry_hash)

    async def _look(self, key: RequestKey, payment: RequestKey) -> tuple[KnownRequest | None, StandingPayment | None]:
        if key == payment:
            raise Rejected("key_reused", "a request needs a key of its own, not the key that it speaks of")

        def look(
            connection: sqlite3.Connection,
        ) -> tuple[KnownRequest | None, KnownRequest | None, StandingPayment | None]:
            return find_request(connection, key), find_request(connection, payment), find_payment(connection, payment)

        known, target, standing = await self._ledger.read(look)
        if target is not None and standing is None:
            raise Rejected("payment_unknown", f"this key belongs to a {target.verb}, not to a payment")
        return known, standing
