"""A sale tried again with another tender: of all tries of one sale, which `retry_of` names, one keeps its money.

    an earlier try never came     it is buried with the same commit: should it still come, it is refused
    it is being checked           its reversal is wanted with the commit that lets a later try stand
    it stands already             the later try is refused before money moves: the customer has paid

What the till never saw answered may not have come either: so it names every try, and each that never came is buried.
A try that is not named, such as another till's, refuses this one while it may stand.
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
from appliance.model.limits import SALE_TRIES_MAX
from appliance.model.payment import Identity, PaymentState, ValidPayment
from appliance.payment.drafts import outlived_draft, unseen_draft
from appliance.payment.guards import PAYMENT_CHANGED, Unchanged, Unseen, require_payment, unused
from appliance.payment.may_begin import may_begin
from appliance.payment.records import StandingPayment, find_payment, find_request
from appliance.payment.repeats import judge, judge_used
from appliance.payment.retry_rows import tries_after, tries_before, tries_of_sale, with_earlier

_RACES_MAX: Final = 5
_KEEPS_NOTHING: Final = frozenset(
    {
        PaymentState.DECLINED,
        PaymentState.NOT_CHARGED,
        PaymentState.EXPIRED,
        PaymentState.CANCELLED,
        PaymentState.REVERSED,
        PaymentState.REFUNDED,
        PaymentState.DECLINED_AFTER_HANDOVER,
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
    """No try of the sale but the `earlier` ones may still stand, and there were not too many.

    So those that may keep money are always one line, and each reverses all before it.
    """

    earlier: tuple[RequestKey, ...]

    def check(self, connection: sqlite3.Connection) -> None:
        tries = tries_of_sale(connection, self.earlier)
        for key in tries:
            beside = None if key in self.earlier else find_payment(connection, key)
            if beside is not None and not _keeps_nothing(beside):
                raise Rejected("retry_exists", f"payment {key} tries it again already; ask for that one's status")
        if len(tries) >= SALE_TRIES_MAX:
            raise Rejected("retry_chain_too_long", f"a sale is tried at most {SALE_TRIES_MAX} times; begin it anew")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOutlived:
    """No later try of its sale may still take the place of `payment`: more can be built on it."""

    payment: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        for later in _standing(connection, tries_after(connection, self.payment)):
            if not _keeps_nothing(later):
                raise Rejected("retry_exists", f"payment {later.recorded.key} may still stand in its place")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earlier:
    """The tries before: those that came, as they stand, and those that never did."""

    came: tuple[StandingPayment, ...]
    unseen: tuple[RequestKey, ...]

    @property
    def keys(self) -> tuple[RequestKey, ...]:
        return (*(each.recorded.key for each in self.came), *self.unseen)


async def begin(
    ledger: Ledger, valid: ValidPayment, first_entry: Draft, *, stands: bool, within: Guard | None = None
) -> Begun:
    """Write the first entry of a payment, and with it what it means for the tries before.

    Args:
        stands: the payment stands with this entry (cash); a card's once it is confirmed (`outlived_by`).
        within: what else must hold, once everything else does.
    Raises:
        AlreadyRecorded: the request is in the ledger.
        Rejected: the key was used otherwise; a voucher is not worth what is taken of it; or the link is refused:
            `retry_not_needed`, `retry_exists`, `retry_chain_too_long`, `key_reused`, `payment_unknown`. Nothing was
            written.
        Unavailable: nothing was written.
        OutcomeUnknown: the commit failed; the process ends and recovery decides.
    """
    identity = valid.identity
    holds = may_begin(valid, first_entry.time_ms)

    async def attempt() -> Begun:
        if not valid.retry_of:
            guard = holds if within is None else AllOf(guards=(holds, within))
            (entry,) = await ledger.append([first_entry], guard, purpose=Purpose.INTENT)
            return Begun(entry=entry)
        earlier = await _look(ledger, identity, valid.retry_of)
        drafts = [first_entry, *(unseen_draft(first_entry, key, identity.key) for key in earlier.unseen)]
        if stands:
            drafts += [outlived_draft(first_entry, each.recorded.key, identity.key) for each in _kept(earlier.came)]
        guards: tuple[Guard, ...] = (
            holds,
            _OnlyRetry(earlier=earlier.keys),
            *_unchanged(earlier.came),
            *(Unseen(fresh=unused(identity.key), payment=key) for key in earlier.unseen),
            *(() if within is None else (within,)),
        )
        entry, *_ = await ledger.append(drafts, AllOf(guards=guards), purpose=Purpose.INTENT)
        return Begun(entry=entry, outlived=tuple(each.recorded.key for each in earlier.came))

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
    earlier = _standing(connection, tries_before(connection, key)) if own.reversal is None else ()
    kept = tuple(each.recorded.key for each in _kept(earlier))
    return Outlived(
        drafts=tuple(outlived_draft(outcome, each, key) for each in kept),
        guard=AllOf(guards=_unchanged((own, *earlier))),
        keys=kept,
    )


async def _look(ledger: Ledger, identity: Identity, named: tuple[RequestKey, ...]) -> _Earlier:
    """The tries that the till names, and those that they name."""
    if identity.key in named:
        raise Rejected("key_reused", "a retry needs a key of its own, not the key of what it tries again")
    known, others, came = await ledger.read(
        lambda connection: (
            find_request(connection, identity.key),
            {key: find_request(connection, key) for key in named},
            _standing(connection, with_earlier(connection, named)),
        )
    )
    await judge(ledger, identity, identity.key, known)
    payments = {each.recorded.key for each in came}
    for key, other in others.items():
        if other is not None and key not in payments:
            raise Rejected("payment_unknown", f"retry_of names a {other.verb}, not a payment")
    for each in came:
        if each.reversal is None and _stands(each):
            state, paid = each.recorded.state, each.recorded.key
            raise Rejected("retry_not_needed", f"payment {paid} is {state}: the customer has paid; ask for its status")
    return _Earlier(came=came, unseen=tuple(key for key, other in others.items() if other is None))


def _standing(connection: sqlite3.Connection, keys: tuple[RequestKey, ...]) -> tuple[StandingPayment, ...]:
    found = (find_payment(connection, key) for key in keys)
    return tuple(each for each in found if each is not None)


def _keeps_nothing(payment: StandingPayment) -> bool:
    """Beside a card that was declined after the handover other tenders may have paid."""
    is_kept_beside = payment.beside_lost_minor > 0 and payment.left.total_minor > 0
    return payment.recorded.state in _KEEPS_NOTHING and not is_kept_beside


def _stands(payment: StandingPayment) -> bool:
    return not _keeps_nothing(payment) and (payment.is_complete or payment.held_minor > 0 or payment.accepted_minor > 0)


def _kept(tries: tuple[StandingPayment, ...]) -> tuple[StandingPayment, ...]:
    """Those that keep money or still may, and that nobody takes back yet."""
    return tuple(each for each in tries if each.reversal is None and not _keeps_nothing(each))


def _unchanged(tries: tuple[StandingPayment, ...]) -> tuple[Guard, ...]:
    return tuple(Unchanged(standing=each, fresh=None) for each in tries)
