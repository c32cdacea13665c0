"""A sale tried again with another tender (`retry_of`): of all tries of one sale, one keeps its money.

    an earlier try never came     it is buried with the same commit: should it still come, it is refused
    it is being checked           its reversal is wanted with the commit that lets a later try stand
    it stands already             the later try is refused before money moves: the customer has paid

A try may itself be tried again, in a line. Another line, from any try of the sale, is refused while one may stand.
What decides is held by guards, in the writer's transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Draft, Purpose, Recorded
from appliance.ledger.guard import AllOf, Guard
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.payment import Identity, PaymentState, ValidPayment
from appliance.payment.drafts import outlived_draft, unseen_draft
from appliance.payment.guards import PAYMENT_CHANGED, Unchanged, Unseen, require_payment, unused
from appliance.payment.may_begin import may_begin
from appliance.payment.records import StandingPayment, find_payment, find_request, first_try, rivals_of
from appliance.payment.repeats import judge, judge_used

TRIES_MAX: Final = 8
_RACES_MAX: Final = 5
_KEEPS_NOTHING: Final = frozenset(
    {
        PaymentState.DECLINED,
        PaymentState.NOT_CHARGED,
        PaymentState.EXPIRED,
        PaymentState.CANCELLED,
        PaymentState.REVERSED,
        PaymentState.REFUNDED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The first entry of a payment is durable.

    Attributes:
        outlived: the earlier tries: nobody waits for their customers any longer.
    """

    entry: Recorded
    outlived: tuple[RequestKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnlyRetry:
    """No other try of the sale may still stand but `first` and those before it.

    So those that may keep money are always one line, and each reverses all before it.
    """

    first: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        for key, state in rivals_of(connection, self.first):
            if state not in _KEEPS_NOTHING:
                raise Rejected("retry_exists", f"payment {key} tries it again already; ask for that one's status")


async def begin(ledger: Ledger, valid: ValidPayment, first_entry: Draft, *, stands: bool) -> Begun:
    """Write the first entry of a payment, and with it what it means for the tries before.

    Args:
        stands: the payment stands with this entry (cash); a card's once it is confirmed (`outlived_by`).
    Raises:
        AlreadyRecorded: the request is in the ledger.
        Rejected: the key was used otherwise; a voucher is not worth what is taken of it; or the link is refused:
            `retry_not_needed`, `retry_exists`, `retry_chain_too_long`, `key_reused`, `payment_unknown`. Nothing was
            written.
        Unavailable: nothing was written.
        OutcomeUnknown: the commit failed; the process ends and recovery decides.
    """
    identity, first = valid.identity, valid.retry_of

    holds = may_begin(valid, first_entry.time_ms)

    async def attempt() -> Begun:
        if first is None:
            (entry,) = await ledger.append([first_entry], holds, purpose=Purpose.INTENT)
            return Begun(entry=entry)
        earlier = await _look(ledger, identity, first)
        drafts = [first_entry]
        guards: list[Guard] = [holds, _OnlyRetry(first=first), *_unchanged(earlier)]
        if not earlier:
            drafts.append(unseen_draft(first_entry, first, identity.key))
            guards.append(Unseen(fresh=unused(identity.key), payment=first))
        elif stands:
            drafts += [outlived_draft(first_entry, each.recorded.key, identity.key) for each in _kept(earlier)]
        entry, *_ = await ledger.append(drafts, AllOf(guards=tuple(guards)), purpose=Purpose.INTENT)
        return Begun(entry=entry, outlived=tuple(each.recorded.key for each in earlier))

    busy = Unavailable("payment_busy", "the payment that this one tries again keeps changing; ask again")
    try:
        return await look_again(attempt, after=PAYMENT_CHANGED, times_max=_RACES_MAX, busy=busy)
    except Rejected as refusal:
        raise await judge_used(ledger, identity, identity.key, refusal) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlived:
    """What is written beside the outcome that lets a payment stand, for the tries before it."""

    drafts: tuple[Draft, ...]
    guard: Guard
    keys: tuple[RequestKey, ...]


def outlived_by(connection: sqlite3.Connection, key: RequestKey, outcome: Draft) -> Outlived:
    """Earlier tries of the payment `key` that might keep money beside it; none where it is taken back itself."""
    own = require_payment(connection, key)
    earlier = _tries(connection, first_try(connection, key)) if own.reversal is None else ()
    kept = tuple(each.recorded.key for each in _kept(earlier))
    return Outlived(
        drafts=tuple(outlived_draft(outcome, each, key) for each in kept),
        guard=AllOf(guards=_unchanged((own, *earlier))),
        keys=kept,
    )


async def _look(ledger: Ledger, identity: Identity, first: RequestKey) -> tuple[StandingPayment, ...]:
    """The tries before, the newest first; none where `first` never came."""
    if identity.key == first:
        raise Rejected("key_reused", "a retry needs a key of its own, not the key of what it tries again")
    known, other, earlier = await ledger.read(
        lambda connection: (
            find_request(connection, identity.key),
            find_request(connection, first),
            _tries(connection, first),
        )
    )
    await judge(ledger, identity, identity.key, known)
    if other is not None and not earlier:
        raise Rejected("payment_unknown", f"retry_of names a {other.verb}, not a payment")
    if len(earlier) >= TRIES_MAX:
        raise Rejected("retry_chain_too_long", f"a sale is tried at most {TRIES_MAX} times; begin it anew")
    for each in earlier:
        if each.reversal is None and _stands(each):
            state, key = each.recorded.state, each.recorded.key
            raise Rejected("retry_not_needed", f"payment {key} is {state}: the customer has paid; ask for its status")
    return earlier


def _tries(connection: sqlite3.Connection, key: RequestKey | None) -> tuple[StandingPayment, ...]:
    """The payment `key` and those that it tried again, in turn."""
    found: list[StandingPayment] = []
    while key is not None and len(found) < TRIES_MAX:
        standing = find_payment(connection, key)
        if standing is None:
            break
        found.append(standing)
        key = first_try(connection, key)
    return tuple(found)


def _stands(payment: StandingPayment) -> bool:
    return payment.recorded.state not in _KEEPS_NOTHING and (payment.is_complete or payment.held_minor > 0)


def _kept(tries: tuple[StandingPayment, ...]) -> tuple[StandingPayment, ...]:
    """Those that keep money or still may, and that nobody takes back yet."""
    return tuple(each for each in tries if each.reversal is None and each.recorded.state not in _KEEPS_NOTHING)


def _unchanged(tries: tuple[StandingPayment, ...]) -> tuple[Guard, ...]:
    return tuple(Unchanged(standing=each, fresh=None) for each in tries)
