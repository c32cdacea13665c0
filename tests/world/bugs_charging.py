"""Bugs of asking for money: at the door, at the provider, at the till."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

from appliance.adapters import stripe, stripe_held, stripe_reply
from appliance.adapters.provider_http import Reply
from appliance.model.ids import ProviderKey, RequestKey
from appliance.model.limits import DAY_MS
from appliance.model.operation import Operation, OperationKind, OperationState
from appliance.payment import batch, operate, operation_records, resolve, settled
from appliance.payment.operate import Operations
from appliance.payment.operation_records import OpenOperation
from appliance.payment.resolve import Resolver
from appliance.ports import provider as port
from provisioning.terminal.asking import Asker
from tests.world import box
from tests.world.bug import bug, put


@bug("A key that is too old is refused, whoever used it.", seed=1)
def refuse_a_used_key_for_its_age() -> None:
    async def forget(*_: object) -> bool:
        return False

    put(box, is_used=forget)
    put(batch, is_used=forget)


@bug("No answer? Ask again, with a fresh key so that the provider does not refuse it.", seed=3)
def retry_with_a_new_provider_key() -> None:
    ask = Operations._ask

    async def twice(self: Operations, operation: Operation, *more: Any) -> port.Answer:
        answer = await ask(self, operation, *more)
        if isinstance(answer, port.Unknown):
            again = replace(operation, provider_key=ProviderKey(f"{operation.provider_key}/again"))
            answer = await ask(self, again, *more)
        return answer

    put(Operations, _ask=twice)


@bug("Keys are idempotent, so what is unclear is simply sent again, however old the key is.", seed=41)
def resend_an_expired_key() -> None:
    async def ask_again(self: Operations, operation: Operation, **_: object) -> port.Found | port.Absent | port.Unknown:
        answer = await self._ask(operation)
        if isinstance(answer, port.Confirmed | port.Declined):
            return port.Found(answer=answer)
        return port.Unknown(reason="asked_again")

    put(Operations, find=ask_again)


@bug("The provider said 200, why compare what it said with what was asked?", seed=43)
def trust_an_answer_unread() -> None:
    for module in (stripe_reply, stripe_held):
        put(module, difference=lambda *_, **__: None)


@bug("A timeout means that the card was declined.", seed=7)
def call_a_timeout_a_decline() -> None:
    _settle_unknown_as(OperationState.REJECTED)


@bug("The connection broke, so nothing was charged.", seed=7)
def call_a_lost_answer_not_charged() -> None:
    _settle_unknown_as(OperationState.ABSENT)


@bug("A 500 is an error, and errors charge nobody.", seed=20)
def call_a_server_error_a_refusal() -> None:
    def refuse(reply: Reply, expected: stripe_reply.Expected) -> port.Answer:
        if reply.status >= 500:
            return port.Refused(code="provider_failed", detail="the provider failed")
        return failure_answer(reply, expected)

    failure_answer = stripe_reply.failure_answer
    put(stripe_reply, failure_answer=refuse)


@bug("JSON that cannot be read is no success.", seed=10)
def call_half_an_answer_a_decline() -> None:
    def decline(reply: Reply, expected: stripe_reply.Expected) -> port.Answer:
        answer = authorise_answer(reply, expected)
        if answer == port.Unknown(reason="answer_unreadable"):
            return port.Declined(code="card_declined", message="The card was declined.")
        return answer

    authorise_answer = stripe_reply.authorise_answer
    put(stripe, authorise_answer=decline)


@bug("One complete listing without it is proof enough.", seed=41)
def settle_by_one_listing() -> None:
    def one(self: Resolver, waiting: OpenOperation, _: port.Absent) -> bool:
        return self._clock.now_ms() - waiting.operation.prepared_ms >= 30_000

    put(Resolver, _is_proven=one)


@bug("What is not in the listing now was never sent.", seed=7)
def forget_that_a_request_may_still_travel() -> None:
    put(Resolver, _is_proven=lambda *_: True)


@bug("The listing starts a day before the intent: no clock is that wrong.", seed=31)
def believe_our_own_clock() -> None:
    async def the_day_before(_self: Resolver, waiting: OpenOperation) -> int:
        return waiting.operation.prepared_ms - DAY_MS

    put(Resolver, _listed_since=the_day_before)


@bug("A charge of the same amount in the same minute is ours.", seed=2)
def find_a_charge_by_its_amount() -> None:
    def same_amount(item: Any, expected: stripe_reply.Expected) -> bool:
        return bool(item.amount == expected.amount)

    put(stripe, _is_ours=same_amount)
    put(stripe_reply, difference=lambda amount, *rest, **_: None if amount == rest[2].amount else "amount_differs")


@bug("After a restart only what was answered as unknown is looked after; the rest was never sent.", seed=6)
def forget_an_open_operation_at_restart() -> None:
    right = operation_records.open_operations

    def answered(connection: sqlite3.Connection, limit: int, **more: Any) -> tuple[OpenOperation, ...]:
        return tuple(each for each in right(connection, limit, **more) if each.state is OperationState.UNKNOWN)

    put(resolve, open_operations=answered)


@bug("Each attempt is a request of its own, so it gets a key of its own.", seed=1)
def let_a_till_retry_under_a_new_key() -> None:
    right = Asker.claims
    asked: set[str] = set()

    def fresh(self: Asker, verb: Any, key: RequestKey, body: Any) -> Any:
        if verb == "payment" and str(key) in asked:
            key = self.new_key()
        asked.add(str(key))
        return right(self, verb, key, body)

    put(Asker, claims=fresh)


def _settle_unknown_as(state: OperationState) -> None:
    right = settled.settle

    def settle(operation: Operation, answer: port.Answer) -> settled.Settled:
        if isinstance(answer, port.Unknown) and operation.kind is OperationKind.AUTHORISE:
            return settled.Settled(state=state, reference=None, code=answer.reason)
        return right(operation, answer)

    put(operate, settle=settle)
    put(resolve, settle=settle)
