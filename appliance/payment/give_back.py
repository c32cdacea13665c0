"""Gives money of a payment back: what the cashier hands over is one entry, a card's part an operation of its own.

Owns what is written; whether it may be given is decided by the caller and held by the guard.
"""

from __future__ import annotations

import msgspec

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.operation import OperationKind
from appliance.model.payment import Identity
from appliance.model.screening import Verdict
from appliance.payment.drafts import screen_facts, undone_draft
from appliance.payment.follow_up import FollowUp
from appliance.payment.guards import Unchanged
from appliance.payment.undo_entry import all_left, undo_entry
from appliance.ports.clock import Clock
from appliance.wire import entries


class GiveBack:
    """Starts giving back; what a provider has to do goes on in the background.

    Both ways raise Rejected (what the guard says; nothing was written) or Unavailable (nothing was written, or the
    resolver finds the intent later), and return when it is durable that the money goes back.
    """

    def __init__(self, *, ledger: Ledger, follow_up: FollowUp, clock: Clock) -> None:
        self._ledger = ledger
        self._follow_up = follow_up
        self._clock = clock

    async def refund(self, facts: entries.RefundFacts, guard: Unchanged, asked_by: Identity, verdict: Verdict) -> None:
        """Give back what `facts` say."""
        if facts.card:
            await self._follow_up(
                OperationKind.REFUND, facts.card, guard, asked_by=asked_by, refund=facts, verdict=verdict
            )
        else:
            await self._by_the_cashier(OperationKind.REFUND, facts, guard, asked_by, verdict)

    async def rest(self, reason: str, guard: Unchanged, *, asked_by: Identity | None) -> None:
        """Give back all that is left, give up what a card's bank only holds, and withdraw what it was not asked for.

        Args:
            asked_by: None for a reversal whose request is in the ledger already.
        """
        standing = guard.standing
        if standing.held_minor:
            await self._follow_up(OperationKind.CANCEL, standing.held_minor, guard, asked_by=asked_by)
        elif standing.accepted_minor:
            await self._follow_up(OperationKind.WITHDRAW, standing.accepted_minor, guard, asked_by=asked_by)
        elif standing.left.card_minor:
            await self._follow_up(OperationKind.REVERSE, standing.left.card_minor, guard, asked_by=asked_by)
        else:
            await self._by_the_cashier(OperationKind.REVERSE, all_left(standing, reason), guard, asked_by)

    async def _by_the_cashier(
        self,
        kind: OperationKind,
        facts: entries.RefundFacts,
        guard: Unchanged,
        asked_by: Identity | None,
        verdict: Verdict | None = None,
    ) -> None:
        standing = guard.standing
        request = standing.reversal if asked_by is None else None
        body = undo_entry(standing, facts, operation=None, request=request)
        if verdict is not None:
            body = msgspec.structs.replace(body, screen=screen_facts(verdict))
        terminal = standing.terminal if asked_by is None else asked_by.terminal
        draft = undone_draft(kind, terminal, body, asked_by, self._clock.now_ms())
        await self._ledger.append([draft], guard, purpose=Purpose.OUTCOME)
