"""Conditions that must hold in the same transaction that writes the entry; a refusal writes nothing.

Each guard is a small value with one `check(connection)`, run by the ledger's writer after every earlier entry of the
group is visible. This is where two terminals asking for the same thing at once are told apart.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.ledger.guard import Guard, KeysUnused
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.operation import OPEN, OperationState
from appliance.model.payment import PaymentState
from appliance.payment.records import StandingPayment, find_payment, find_request

KEY_USED: Final = "key_used"
PAYMENT_CHANGED: Final = "payment_changed"
"""Decided on an older look: look again and decide anew."""


def unused(key: RequestKey) -> KeysUnused:
    """The key was never used; the writer looks up the keys of a whole group at once. `repeats.py` tells the rest."""
    return KeysUnused(table="requests", keys=(key.octets,), code=KEY_USED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The payment stands exactly as it was looked at, so what was decided then is right; and the key is fresh.

    Every entry about a payment changes how it stands: of two requests that were decided on one look, one wins and the
    other looks again.

    Attributes:
        fresh: None where the box itself writes, without a request.
        also: what else must hold.
    """

    standing: StandingPayment
    fresh: KeysUnused | None
    also: Guard | None = None

    def check(self, connection: sqlite3.Connection) -> None:
        if self.fresh is not None:
            self.fresh.check(connection)
        if find_payment(connection, self.standing.recorded.key) != self.standing:
            raise Rejected(PAYMENT_CHANGED, "the payment changed meanwhile; ask again")
        if self.also is not None:
            self.also.check(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """`Unchanged`, and no operation of the payment is open: at most one moves its money at a time."""

    unchanged: Unchanged

    def check(self, connection: sqlite3.Connection) -> None:
        self.unchanged.check(connection)
        # By the primary key, as `operation_records.operation_count` does.
        payment = self.unchanged.standing.recorded.key
        states = connection.execute(
            "SELECT state FROM operations WHERE id > ? AND id < ?", (f"{payment}/", f"{payment}0")
        ).fetchall()
        if not OPEN.isdisjoint(OperationState(state) for (state,) in states):
            raise Rejected("payment_open", "an operation of the payment is still being checked; wait for its outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """The key is fresh and the payment it speaks of never came: a tombstone may be written."""

    fresh: KeysUnused
    payment: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        if find_request(connection, self.payment) is not None:
            raise Rejected(PAYMENT_CHANGED, "the payment arrived meanwhile; ask again")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationOpen:
    """The operation's end is not known yet: an outcome may be written, once."""

    operation_id: str
    may_be_unknown: bool = True

    def check(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT state FROM operations WHERE id = ?", (self.operation_id,)).fetchone()
        states = {OperationState.PREPARED} | ({OperationState.UNKNOWN} if self.may_be_unknown else set())
        if row is None or OperationState(row[0]) not in states:
            raise Rejected("operation_closed", "the operation's outcome is already in the ledger")


def require_payment(connection: sqlite3.Connection, key: RequestKey) -> StandingPayment:
    """The payment `key`. Raises Rejected `payment_unknown`."""
    return require_known(find_payment(connection, key))


def require_known(standing: StandingPayment | None) -> StandingPayment:
    """The payment that was looked for. Raises Rejected `payment_unknown`."""
    if standing is None:
        raise Rejected("payment_unknown", "no payment with this key is in the ledger")
    return standing


def require_standing(standing: StandingPayment) -> None:
    """Refuse to undo what is open, given back, or keeps no money."""
    state = standing.recorded.state
    if standing.reversal is not None or state in (PaymentState.REFUNDED, PaymentState.REVERSED):
        raise Rejected("already_undone", "all of it was given back before, or a reversal came first")
    if standing.vouchers_minor:
        raise Rejected("vouchers_sold", "vouchers were sold with it, which are money already: take them back first")
    if state is PaymentState.ACCEPTED_OFFLINE:
        raise Rejected("payment_not_confirmed", "the card was accepted offline: reverse it, or wait for its bank")
    if state is PaymentState.CHECKING:
        raise Rejected("payment_open", "the payment is still being checked; reverse it, or wait for its outcome")
    if state is PaymentState.DECLINED_AFTER_HANDOVER and standing.left.total_minor:
        return  # what else paid is still the shop's to give back
    if state not in (PaymentState.APPROVED, PaymentState.AUTHORISED, PaymentState.PARTLY_REFUNDED):
        raise Rejected("payment_took_no_money", f"the payment is {state}: there is nothing to give back")
