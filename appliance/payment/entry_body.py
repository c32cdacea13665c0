"""Reads what entries of the payment domain say."""

from __future__ import annotations

import sqlite3
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.ledger import entry as ledger_entry
from appliance.ledger.draft import RecordedEntry
from appliance.model.errors import Rejected
from appliance.model.operation import OperationKind
from appliance.model.payment import PaymentState
from appliance.wire import entries

WireT = TypeVar("WireT", bound=msgspec.Struct)

VERBS: Final = {
    OperationKind.OFFER: "payment",
    OperationKind.AUTHORISE: "payment",
    OperationKind.RESERVE: "payment",
    OperationKind.CAPTURE: "capture",
    OperationKind.CANCEL: "reversal",
    OperationKind.REFUND: "refund",
    OperationKind.REVERSE: "reversal",
    OperationKind.FORWARD: "payment",
    OperationKind.WITHDRAW: "reversal",
}
"""What a terminal asked for, by the operation that serves it."""


def body_of(entry: RecordedEntry, shape: type[WireT]) -> WireT:
    """The typed body of `entry`; that it is canonical was the encoder's care, and is `ledger/verify.py`'s."""
    known = entry.read.get(shape)
    if isinstance(known, shape):
        return known
    body = entry.read[shape] = msgspec.convert(cbor.decode_ours(entry.body), shape)
    return body


def body_at(connection: sqlite3.Connection, seq: int, shape: type[WireT]) -> WireT:
    """The typed body of the entry `seq`. Raises Rejected `sale_pruned`."""
    row = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        raise Rejected("sale_pruned", "the sale's lines were pruned from the log; refund an amount")
    return msgspec.convert(cbor.decode_ours(ledger_entry.decode(row[0]).body), shape)


def given_minor(given: entries.UndoEntry | entries.RefundFacts) -> int:
    """What goes back, by all tenders."""
    return given.cash + given.card + given.stated + given.voucher


def state_after_refund(body: entries.UndoEntry) -> PaymentState:
    """How the payment stands after a `refund` entry."""
    return PaymentState.PARTLY_REFUNDED if body.left else PaymentState.REFUNDED
