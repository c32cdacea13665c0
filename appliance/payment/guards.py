"""Conditions that must hold in the same transaction that writes the entry; a refusal writes nothing.

Each guard is a small value with one `check(connection)`, run by the ledger's writer after every earlier entry of the
group is visible. This is where two terminals asking for the same thing at once are told apart.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.ledger.guard import KeysUnused
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.operation import OperationState
from appliance.model.payment import PaymentState
from appliance.payment.records import StandingPayment, find_payment, find_request, is_reversal_due

KEY_USED: Final = "key_used"


def unused(key: RequestKey) -> KeysUnused:
    """The key was never used; the writer looks up the keys of a whole group at once. `repeats.py` tells the rest."""
    return KeysUnused(table="requests", keys=(key.octets,), code=KEY_USED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoable:
    """The key is fresh and the payment is approved and nobody else is undoing it: of two refunds one wins."""

    fresh: KeysUnused
    payment: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        require_undoable(require_payment(connection, self.payment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """The key is fresh and the payment it speaks of never came: a tombstone may be written."""

    fresh: KeysUnused
    payment: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        if find_request(connection, self.payment) is not None:
            raise Rejected("payment_changed", "the payment arrived meanwhile; ask again")


@dataclass(frozen=True, slots=True, kw_only=True)
class StillOpen:
    """The key is fresh and the payment is being checked, with no undoing asked for yet."""

    fresh: KeysUnused
    payment: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        standing = require_payment(connection, self.payment)
        if standing.undo is not None:
            raise Rejected("already_undone", "another refund or reversal of this payment came first")
        if standing.recorded.state is not PaymentState.CHECKING:
            raise Rejected("payment_changed", "the payment's outcome arrived meanwhile; ask again")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalDue:
    """The payment was approved and its reversal was asked for before: the reversal's intent may be written, once."""

    payment: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        if not is_reversal_due(connection, self.payment):
            raise Rejected("payment_changed", "the reversal is no longer due")


def require_payment(connection: sqlite3.Connection, key: RequestKey) -> StandingPayment:
    """The payment `key`. Raises Rejected `payment_unknown`."""
    standing = find_payment(connection, key)
    if standing is None:
        raise Rejected("payment_unknown", "no payment with this key is in the ledger")
    return standing


def require_undoable(standing: StandingPayment) -> None:
    """Refuse to undo what is open, undone, or never took money."""
    state = standing.recorded.state
    if standing.undo is not None or state in (PaymentState.REFUNDED, PaymentState.REVERSED):
        raise Rejected("already_undone", "another refund or reversal of this payment came first")
    if state is PaymentState.CHECKING:
        raise Rejected("payment_open", "the payment is still being checked; reverse it, or wait for its outcome")
    if state is not PaymentState.APPROVED:
        raise Rejected("payment_took_no_money", f"the payment is {state}: there is nothing to give back")
