"""Bugs that a world must find: each is what a tired colleague might write, planted into the running code.

Owns the list. A bug replaces one function of ours by a wrong twin of it, in a process of its own (`worker.py`).
`test_bugs.py` asks the world to catch every one; a bug that gets away shows a hole in the world, not in the list.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.adapters import stripe, stripe_held, stripe_reply
from appliance.adapters.provider_http import Reply
from appliance.ledger import database, opening
from appliance.ledger.draft import RecordedEntry
from appliance.ledger.group import Append
from appliance.ledger.writer import Settled, Writer
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderKey, ProviderReference, RequestKey
from appliance.model.limits import DAY_MS
from appliance.model.operation import Operation, OperationKind, OperationState
from appliance.payment import batch, linked, may_begin, operate, projection, records, repeats, resolve, settled
from appliance.payment.entry_body import body_of
from appliance.payment.follow_up import FollowUp
from appliance.payment.guards import Unchanged
from appliance.payment.operate import Operations
from appliance.payment.records import OpenOperation, find_request
from appliance.payment.resolve import Resolver
from appliance.ports import provider as port
from appliance.wire import entries
from provisioning.terminal.asking import Asker
from tests.world import box

Plant = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One wrong function.

    Attributes:
        what: the sentence that its author would defend it with.
        seed: a world that caught it once; where it does no more, others are searched.
    """

    name: str
    what: str
    seed: int
    plant: Plant


BUGS: Final[dict[str, Bug]] = {}


def _bug(what: str, *, seed: int) -> Callable[[Plant], Plant]:
    def keep(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        BUGS[name] = Bug(name=name, what=what, seed=seed, plant=plant)
        return plant

    return keep


def _put(owner: Any, **wrong: object) -> None:
    """Replace functions of a class or a module by their wrong twins."""
    for name, twin in wrong.items():
        getattr(owner, name)  # a renamed function must not leave its bug behind unplanted
        setattr(owner, name, twin)


# --- at the door ---


@_bug("A key that is too old is refused, whoever used it.", seed=1)
def refuse_a_used_key_for_its_age() -> None:
    async def forget(*_: object) -> bool:
        return False

    _put(box, is_used=forget)
    _put(batch, is_used=forget)


# --- at the provider ---


@_bug("No answer? Ask again, with a fresh key so that the provider does not refuse it.", seed=3)
def retry_with_a_new_provider_key() -> None:
    ask = Operations._ask

    async def twice(self: Operations, operation: Operation) -> port.Answer:
        answer = await ask(self, operation)
        if isinstance(answer, port.Unknown):
            again = replace(operation, provider_key=ProviderKey(f"{operation.provider_key}/again"))
            answer = await ask(self, again)
        return answer

    _put(Operations, _ask=twice)


@_bug("Keys are idempotent, so what is unclear is simply sent again, however old the key is.", seed=41)
def resend_an_expired_key() -> None:
    async def ask_again(self: Operations, operation: Operation, **_: object) -> port.Found | port.Absent | port.Unknown:
        answer = await self._ask(operation)
        if isinstance(answer, port.Confirmed | port.Declined):
            return port.Found(answer=answer)
        return port.Unknown(reason="asked_again")

    _put(Operations, find=ask_again)


@_bug("The provider said 200, why compare what it said with what was asked?", seed=43)
def trust_an_answer_unread() -> None:
    for module in (stripe_reply, stripe_held):
        _put(module, difference=lambda *_, **__: None)


@_bug("A timeout means that the card was declined.", seed=7)
def call_a_timeout_a_decline() -> None:
    _settle_unknown_as(OperationState.REJECTED)


@_bug("The connection broke, so nothing was charged.", seed=7)
def call_a_lost_answer_not_charged() -> None:
    _settle_unknown_as(OperationState.ABSENT)


@_bug("A 500 is an error, and errors charge nobody.", seed=20)
def call_a_server_error_a_refusal() -> None:
    def refuse(reply: Reply, expected: stripe_reply.Expected) -> port.Answer:
        if reply.status >= 500:
            return port.Refused(code="provider_failed", detail="the provider failed")
        return failure_answer(reply, expected)

    failure_answer = stripe_reply.failure_answer
    _put(stripe_reply, failure_answer=refuse)


@_bug("JSON that cannot be read is no success.", seed=10)
def call_half_an_answer_a_decline() -> None:
    def decline(reply: Reply, expected: stripe_reply.Expected) -> port.Answer:
        answer = authorise_answer(reply, expected)
        if answer == port.Unknown(reason="answer_unreadable"):
            return port.Declined(code="card_declined", message="The card was declined.")
        return answer

    authorise_answer = stripe_reply.authorise_answer
    _put(stripe, authorise_answer=decline)


@_bug("One complete listing without it is proof enough.", seed=41)
def settle_by_one_listing() -> None:
    def one(self: Resolver, waiting: OpenOperation, _: port.Absent) -> bool:
        return self._clock.now_ms() - waiting.operation.prepared_ms >= 30_000

    _put(Resolver, _is_proven=one)


@_bug("What is not in the listing now was never sent.", seed=7)
def forget_that_a_request_may_still_travel() -> None:
    _put(Resolver, _is_proven=lambda *_: True)


@_bug("The listing starts a day before the intent: no clock is that wrong.", seed=31)
def believe_our_own_clock() -> None:
    async def the_day_before(_self: Resolver, waiting: OpenOperation) -> int:
        return waiting.operation.prepared_ms - DAY_MS

    _put(Resolver, _listed_since=the_day_before)


@_bug("A charge of the same amount in the same minute is ours.", seed=2)
def find_a_charge_by_its_amount() -> None:
    def same_amount(item: Any, expected: stripe_reply.Expected) -> bool:
        return bool(item.amount == expected.amount)

    _put(stripe, _is_ours=same_amount)
    _put(stripe_reply, difference=lambda amount, *rest, **_: None if amount == rest[2].amount else "amount_differs")


@_bug("A refund that was not confirmed is begun anew.", seed=2)
def refund_again_without_proof() -> None:
    find = Operations.find

    async def impatient(
        self: Operations, operation: Operation, *, since_ms: int, known: ProviderReference | None
    ) -> port.Found | port.Absent | port.Unknown:
        if operation.kind is OperationKind.AUTHORISE:
            return await find(self, operation, since_ms=since_ms, known=known)
        return port.Absent(as_of_ms=self._clock.now_ms())

    _put(Operations, find=impatient)
    _put(Resolver, _is_proven=lambda *_: True)


@_bug("A refund gives the sale's total back.", seed=7)
def refund_the_total_by_card() -> None:
    right = FollowUp.__call__

    async def total(self: FollowUp, kind: OperationKind, amount_minor: int, guard: Unchanged, **rest: Any) -> None:
        gives_back = kind in (OperationKind.REFUND, OperationKind.REVERSE)
        await right(self, kind, guard.standing.recorded.total_minor if gives_back else amount_minor, guard, **rest)

    _put(FollowUp, __call__=total)


@_bug("After a restart only what was answered as unknown is looked after; the rest was never sent.", seed=6)
def forget_an_open_operation_at_restart() -> None:
    right = records.open_operations

    def answered(connection: sqlite3.Connection, limit: int) -> tuple[OpenOperation, ...]:
        return tuple(each for each in right(connection, limit) if each.state is OperationState.UNKNOWN)

    _put(resolve, open_operations=answered)


# --- in the ledger ---


@_bug("fsync is slow, and the kernel writes it out soon enough.", seed=2)
def drop_the_fsync() -> None:
    right = database.connect_writer

    def fast(folder: Path) -> sqlite3.Connection:
        connection = right(folder)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    _put(opening, connect_writer=fast)


@_bug("What SQLite finds at the start is what the disk holds.", seed=1)
def believe_clean_looking_pages() -> None:
    _put(opening, rewrite_wal=lambda _: None)


@_bug("The till need not wait for the disk: the commit is about to happen.", seed=8)
def answer_before_commit() -> None:
    transact, commit = Writer._transact, Writer._commit

    def hasty(self: Writer, members: Sequence[Append]) -> Settled:
        vars(self)["_commit"] = lambda: None
        settled = transact(self, members)
        del vars(self)["_commit"]
        self._settle(settled)
        if self._connection.in_transaction:
            commit(self)
        return replace(settled, tiles=(), answers=())

    _put(Writer, _transact=hasty)


@_bug("Whether a refund is allowed was checked a moment ago.", seed=36)
def check_a_refund_outside_the_transaction() -> None:
    _put(Unchanged, check=lambda self, connection: self.fresh and self.fresh.check(connection))


@_bug("A key that was used is the same request again.", seed=36)
def accept_a_replayed_key_with_another_payload() -> None:
    async def never(*_: object) -> bool:
        return False

    _put(repeats, _differs=never)


@_bug("A payment that was cancelled before it came is a payment like any other.", seed=3)
def ignore_a_tombstone() -> None:
    def unless_tombstone(key: RequestKey) -> Any:
        return _FreshOrTombstone(key=key)

    for module in (may_begin, batch):
        _put(module, unused=unless_tombstone)
    _insert_over()


@_bug("The reversal comes by itself: the entry says that it is wanted.", seed=3)
def lose_the_mark_of_a_wanted_reversal() -> None:
    def only_the_request(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
        body = body_of(entry, entries.ReversalWantedEntry)
        if body.asked is not None:
            row = projection._request_row(entry, body.asked, "reversal", body.payment)
            connection.execute(projection._INSERT_REQUEST, row)

    projection._APPLY[entries.REVERSAL_WANTED] = only_the_request


@_bug("The cashier will reverse the card that came too late.", seed=3)
def let_the_outlived_try_stand() -> None:
    _put(linked, _kept=lambda _: ())


@_bug("A try that is looked at stands as it was looked at.", seed=2)
def let_any_retry_begin() -> None:
    _put(linked._OnlyRetry, check=lambda *_: None)


@_bug("What a till does not name is no try of its sale.", seed=6)
def look_at_named_tries_alone() -> None:
    def named(_: sqlite3.Connection, keys: tuple[RequestKey, ...]) -> tuple[RequestKey, ...]:
        return keys

    _put(linked, tries_of_sale=named)


@_bug("What is in the drawer is tendered minus change, and the rounding.", seed=1)
def count_a_rounding_twice() -> None:
    right = projection._payment_row

    def twice(entry: RecordedEntry, asked: entries.Asked, sale: entries.SaleFacts, *rest: Any) -> Any:
        return right(entry, asked, msgspec.structs.replace(sale, change=max(0, sale.change - sale.rounding)), *rest)

    _put(projection, _payment_row=twice)


@_bug("Stored sales were checked by the till.", seed=3)
def take_stored_sales_unchecked() -> None:
    _put(batch, unused=lambda _: None)
    _insert_over()


# --- at the till ---


@_bug("Each attempt is a request of its own, so it gets a key of its own.", seed=1)
def let_a_till_retry_under_a_new_key() -> None:
    right = Asker.claims
    asked: set[str] = set()

    def fresh(self: Asker, verb: Any, key: RequestKey, body: Any) -> Any:
        if verb == "payment" and str(key) in asked:
            key = self.new_key()
        asked.add(str(key))
        return right(self, verb, key, body)

    _put(Asker, claims=fresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FreshOrTombstone:
    key: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        known = find_request(connection, self.key)
        if known is not None and not known.is_tombstone:
            raise Rejected("key_used", "this key was used")


def _settle_unknown_as(state: OperationState) -> None:
    right = settled.settle

    def settle(operation: Operation, answer: port.Answer) -> settled.Settled:
        if isinstance(answer, port.Unknown) and operation.kind is OperationKind.AUTHORISE:
            return settled.Settled(state=state, reference=None, code=answer.reason)
        return right(operation, answer)

    _put(operate, settle=settle)
    _put(resolve, settle=settle)


def _insert_over() -> None:
    for name in ("_INTO_REQUESTS", "_INTO_PAYMENTS", "_INSERT_REQUEST", "_INSERT_PAYMENT"):
        statement: str = getattr(projection, name)
        _put(projection, **{name: statement.replace("INSERT", "INSERT OR REPLACE")})
