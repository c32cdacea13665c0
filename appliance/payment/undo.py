"""Reversal and abort: the two ways of stopping a payment, whatever became of it.

    reversal  a payment must not stand: in the end no money of it is kept; of a partly refunded one the rest goes back,
            what a card's bank only holds is given up
    abort     a payment is stopped before it is approved

Of a key never seen either writes a tombstone: should the payment still come, it is refused. Of an open payment either
is recorded, and runs after the outcome that is awaited. The guards run in the writer's transaction, so of two terminals
that undo one payment, one wins.
"""

from __future__ import annotations

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.model.payment import AuthenticatedRequest, Identity, PaymentState
from appliance.payment.drafts import ask, draft
from appliance.payment.give_back import GiveBack
from appliance.payment.guards import Unchanged, Unseen, require_standing, unused
from appliance.payment.looking import look, until_unchanged
from appliance.payment.operate import Operations
from appliance.payment.records import StandingPayment
from appliance.ports.clock import Clock
from appliance.wire import entries
from appliance.wire.requests import AbortBody, ReversalBody

_NOTHING_TO_UNDO = (
    PaymentState.DECLINED,
    PaymentState.NOT_CHARGED,
    PaymentState.EXPIRED,
    PaymentState.CANCELLED,
    PaymentState.REVERSED,
)
"""No money is kept as it is."""


class Undo:
    """The two verbs. Each returns when its effect is durable; a card's part goes on in the background."""

    def __init__(self, *, ledger: Ledger, operations: Operations | None, give_back: GiveBack, clock: Clock) -> None:
        self._ledger = ledger
        self._operations = operations
        self._give_back = give_back
        self._clock = clock

    async def reverse(self, request: AuthenticatedRequest[ReversalBody]) -> RequestKey:
        """Make sure that in the end no money of the payment is kept; returns the payment's key."""
        refuse_card_numbers((request.body.reason,))
        payment = request_key(request.body.of)
        return await self._until_stopped(request.identity, payment, request.body.reason, verb="reversal")

    async def abort(self, request: AuthenticatedRequest[AbortBody]) -> RequestKey:
        """Stop a payment that is not approved yet; returns the payment's key.

        Raises:
            Rejected: `payment_complete`: it is approved; refund or reverse it.
        """
        payment = request_key(request.body.of)
        return await self._until_stopped(request.identity, payment, "", verb="abort")

    async def _until_stopped(self, identity: Identity, payment: RequestKey, reason: str, *, verb: str) -> RequestKey:
        await until_unchanged(self._ledger, identity, payment, lambda: self._stop(identity, payment, reason, verb=verb))
        return payment

    async def _stop(self, identity: Identity, payment: RequestKey, reason: str, *, verb: str) -> None:
        standing = await look(self._ledger, identity, payment)
        if standing is None:
            await self._bury(identity, payment)
            return
        state = standing.recorded.state
        is_lost = state is PaymentState.DECLINED_AFTER_HANDOVER and not standing.left.total_minor
        if state in _NOTHING_TO_UNDO or is_lost:
            return
        is_handed_over = (
            standing.is_complete or standing.accepted_minor or state is PaymentState.DECLINED_AFTER_HANDOVER
        )
        if verb == "abort" and is_handed_over and standing.reversal is None:
            raise Rejected("payment_complete", "the payment is approved; refund or reverse it")
        elif state in (PaymentState.CHECKING, PaymentState.ACCEPTED_OFFLINE):
            await self._want_reversal(identity, standing)
        else:
            require_standing(standing)
            guard = Unchanged(standing=standing, fresh=unused(identity.key))
            await self._give_back.rest(reason, guard, asked_by=identity)

    async def _bury(self, identity: Identity, payment: RequestKey) -> None:
        asked, disclosures = ask(identity, ())
        body = entries.TombstoneEntry(asked=asked, payment=payment.octets)
        tombstone = draft(entries.TOMBSTONE, identity.terminal, self._clock.now_ms(), body, disclosures)
        guard = Unseen(fresh=unused(identity.key), payment=payment)
        await self._ledger.append([tombstone], guard, purpose=Purpose.OUTCOME)

    async def _want_reversal(self, identity: Identity, standing: StandingPayment) -> None:
        if standing.reversal is not None:
            raise Rejected("already_undone", "another reversal of this payment came first")
        asked, disclosures = ask(identity, ())
        body = entries.ReversalWantedEntry(asked=asked, payment=standing.recorded.key.octets)
        wanted = draft(entries.REVERSAL_WANTED, identity.terminal, self._clock.now_ms(), body, disclosures)
        guard = Unchanged(standing=standing, fresh=unused(identity.key))
        await self._ledger.append([wanted], guard, purpose=Purpose.OUTCOME)
        if self._operations is not None:
            self._operations.give_up(standing.recorded.key)
