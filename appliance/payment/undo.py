"""Reversal and abort: the two ways of stopping a payment, whatever became of it.

    reversal  a payment must not stand: in the end no money of it is kept; of a partly refunded one the rest goes back,
            what a card's bank only holds is given up
    abort     a payment is stopped before it is approved

A reversal of the first part of a sale gives the whole sale up: one commit closes it and wants every part back, so that
the resolver finishes what this does not. A reversal of a later part, and an abort, stop that part alone.

Of a key never seen either writes a tombstone: should the payment still come, it is refused. Of an open payment either
is recorded, and runs after the outcome that is awaited. The guards run in the writer's transaction, so of two terminals
that undo one payment, one wins.
"""

from __future__ import annotations

from contextlib import suppress

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.model.parts import SaleInParts
from appliance.model.payment import AuthenticatedRequest, Identity, PaymentState
from appliance.payment.drafts import ask, draft, given_up_drafts
from appliance.payment.give_back import GiveBack
from appliance.payment.guards import Unchanged, Unseen, require_standing, unused
from appliance.payment.looking import look, until_unchanged
from appliance.payment.operate import Operations
from appliance.payment.parts import SaleUnchanged, find_sale
from appliance.payment.records import StandingPayment, due_reversal
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
        sale = None if verb == "abort" else await self._ledger.read(lambda found: find_sale(found, payment))
        if sale is not None and sale.key == payment:
            await self._give_up(identity, sale, reason)
            return
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

    async def _give_up(self, identity: Identity, sale: SaleInParts, reason: str) -> None:
        kept = [part for part in sale.parts if part.counts and (part.left_minor or not part.is_paid)]
        if sale.closed_by is not None and not kept:
            if any(part.is_going_back for part in sale.parts):
                raise Rejected("already_undone", "another reversal of this sale came first")
            return
        drafts = given_up_drafts(identity, sale.key, [part.key for part in kept], reason, self._clock.now_ms())
        guard = SaleUnchanged(sale=sale, fresh=unused(identity.key))
        await self._ledger.append(drafts, guard, purpose=Purpose.OUTCOME)
        for part in kept:
            if part.state is PaymentState.ACCEPTED_OFFLINE:
                continue  # its bank may be asked at this moment: the resolver's, once that has its end
            if part.state is not PaymentState.CHECKING:
                await self._take_back(part.key)
            elif self._operations is not None:
                self._operations.give_up(part.key)

    async def _take_back(self, part: RequestKey) -> None:
        """At once, unless the resolver was faster; what fails here is the resolver's."""
        standing = await self._ledger.read(lambda found: due_reversal(found, part))
        if standing is None:
            return
        with suppress(Rejected, Unavailable):
            await self._give_back.rest("", Unchanged(standing=standing, fresh=None), asked_by=None)

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
