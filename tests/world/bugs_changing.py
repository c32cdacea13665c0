"""Bugs of what is done to a payment that stands."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

from appliance.model.ids import ProviderReference
from appliance.model.operation import Operation, OperationKind
from appliance.model.payment import Identity
from appliance.payment import (
    operate,
    pipeline,
    refund,
    undo_entry,
)
from appliance.payment.follow_up import FollowUp
from appliance.payment.give_back import GiveBack
from appliance.payment.guards import Unchanged, require_payment
from appliance.payment.operate import Operations
from appliance.payment.records import StandingPayment
from appliance.payment.resolve import Resolver
from appliance.ports import provider as port
from appliance.wire import entries
from appliance.wire.requests import RefundBody
from tests.world.bug import bug, put


@bug("A refund that was not confirmed is begun anew.", seed=2)
def refund_again_without_proof() -> None:
    find = Operations.find

    async def impatient(
        self: Operations, operation: Operation, *, since_ms: int, known: ProviderReference | None
    ) -> port.Found | port.Absent | port.Unknown:
        if operation.kind is OperationKind.AUTHORISE:
            return await find(self, operation, since_ms=since_ms, known=known)
        return port.Absent(as_of_ms=self._clock.now_ms())

    put(Operations, find=impatient)
    put(Resolver, _is_proven=lambda *_: True)


@bug("A refund gives the sale's total back.", seed=7)
def refund_the_total_by_card() -> None:
    right = FollowUp.__call__

    async def total(self: FollowUp, kind: OperationKind, amount_minor: int, guard: Unchanged, **rest: Any) -> None:
        gives_back = kind in (OperationKind.REFUND, OperationKind.REVERSE)
        await right(self, kind, guard.standing.recorded.total_minor if gives_back else amount_minor, guard, **rest)

    put(FollowUp, __call__=total)


@bug("What may be given back is what was paid.", seed=1)
def forget_what_was_given_before() -> None:
    right = refund.Refund._given

    async def whole(self: refund.Refund, standing: StandingPayment, body: RefundBody, sale: Any) -> Any:
        return await right(self, replace(standing, left=standing.paid), body, sale)

    put(refund.Refund, _given=whole)


@bug("A refund that the provider confirmed gave back what was left.", seed=12)
def record_a_part_as_all() -> None:
    def all_of_it(connection: sqlite3.Connection, operation: Operation) -> entries.UndoEntry:
        standing = require_payment(connection, operation.payment_key)
        facts = undo_entry.all_left(standing, "")
        return undo_entry.undo_entry(standing, facts, operation=operation, request=operation.request)

    put(operate, confirmed_entry=all_of_it)


@bug("A till that asks about a refund wants to know how the payment stands.", seed=1)
def answer_a_refund_with_its_payment() -> None:
    put(pipeline, find_refund=lambda *_: None)


@bug("Whether a refund is allowed was checked a moment ago.", seed=36)
def check_a_refund_outside_the_transaction() -> None:
    put(Unchanged, check=lambda self, connection: self.fresh and self.fresh.check(connection))


@bug("The time to capture is over when our clock says so.", seed=104)
def give_up_by_our_own_clock() -> None:
    async def over(*_: object) -> bool:
        return True

    put(Resolver, _is_over=over)


@bug("What the card's bank holds is what the customer agreed to pay.", seed=6)
def capture_all_that_is_held() -> None:
    right = FollowUp.__call__

    async def all_of_it(self: FollowUp, kind: OperationKind, amount_minor: int, guard: Unchanged, **rest: Any) -> None:
        amount = guard.standing.held_minor if kind is OperationKind.CAPTURE else amount_minor
        await right(self, kind, amount, guard, **rest)

    put(FollowUp, __call__=all_of_it)


@bug("What was never taken need not be given up: the bank forgets it.", seed=13)
def leave_a_hold_to_the_bank() -> None:
    right = GiveBack.rest

    async def by_an_entry(self: GiveBack, reason: str, guard: Unchanged, *, asked_by: Identity | None) -> None:
        standing = replace(guard.standing, held_minor=0)
        if guard.standing.held_minor:
            await self._by_the_cashier(OperationKind.REVERSE, undo_entry.all_left(standing, reason), guard, asked_by)
        else:
            await right(self, reason, guard, asked_by=asked_by)

    put(GiveBack, rest=by_an_entry)
