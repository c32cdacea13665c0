"""Tables of the payment domain, derived from entries alone.

Three tables: `requests` remembers every key for its 90 days and longer, `payments` says how each payment stands,
`operations` holds every attempt at a provider. Rebuilding them from the log gives the same rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import RecordedEntry
from appliance.ledger.rows import insert_rows
from appliance.model.invariants import ensure
from appliance.model.operation import OperationKind, OperationState, advance
from appliance.model.payment import PaymentState
from appliance.wire import entries
from appliance.wire.requests import TenderBody

WireT = TypeVar("WireT", bound=msgspec.Struct)

CANCELLED_PAYLOAD: Final = bytes(32)
"""Commitment that a tombstone puts in the place of the payment that never came."""

STATE_AFTER: Final[dict[tuple[OperationKind, OperationState], PaymentState]] = {
    (OperationKind.AUTHORISE, OperationState.CONFIRMED): PaymentState.APPROVED,
    (OperationKind.AUTHORISE, OperationState.REJECTED): PaymentState.DECLINED,
    (OperationKind.AUTHORISE, OperationState.ABSENT): PaymentState.NOT_CHARGED,
    (OperationKind.AUTHORISE, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.REFUND, OperationState.CONFIRMED): PaymentState.REFUNDED,
    (OperationKind.REFUND, OperationState.REJECTED): PaymentState.APPROVED,
    (OperationKind.REFUND, OperationState.ABSENT): PaymentState.CHECKING,  # a new attempt follows in the same commit
    (OperationKind.REFUND, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.REVERSE, OperationState.CONFIRMED): PaymentState.REVERSED,
    (OperationKind.REVERSE, OperationState.REJECTED): PaymentState.APPROVED,
    (OperationKind.REVERSE, OperationState.ABSENT): PaymentState.CHECKING,
    (OperationKind.REVERSE, OperationState.UNKNOWN): PaymentState.CHECKING,
}
"""How a payment stands once its operation does: the whole truth."""


class PaymentProjection:
    """Keeps the three tables in step with the log, in the writer's transaction."""

    name: Final = "payment"
    tables: Final = ("requests", "payments", "operations")
    schema: Final = (
        # payload: the entry's commitment to it. payment: the key of the payment that the request is about; for a
        # payment, its own.
        "CREATE TABLE requests (key BLOB PRIMARY KEY, verb TEXT NOT NULL, terminal TEXT NOT NULL,"
        " payload BLOB NOT NULL, payment BLOB NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
        # cash: to hand back on refund. first, last: entries that a receipt proves. undo: key of refund or reversal.
        "CREATE TABLE payments (key BLOB PRIMARY KEY, terminal TEXT NOT NULL, state TEXT NOT NULL,"
        " currency TEXT NOT NULL, total INTEGER NOT NULL, cash INTEGER NOT NULL, card INTEGER NOT NULL,"
        " sold_at_ms INTEGER NOT NULL,"
        " first INTEGER NOT NULL, last INTEGER NOT NULL, undo BLOB, undo_verb TEXT, reference TEXT, code TEXT)"
        " WITHOUT ROWID",
        "CREATE TABLE operations (id TEXT PRIMARY KEY, payment BLOB NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,"
        " provider_key TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, terminal TEXT NOT NULL,"
        " prepared_ms INTEGER NOT NULL, intent INTEGER NOT NULL, target TEXT, source TEXT, reference TEXT, code TEXT)"
        " WITHOUT ROWID",
        "CREATE INDEX operations_open ON operations (prepared_ms) WHERE state IN ('prepared', 'unknown')",
        "CREATE INDEX payments_being_undone ON payments (first) WHERE state = 'being_checked' AND undo IS NOT NULL",
    )
    kinds: Final = frozenset(
        {
            entries.SALE,
            entries.INTENT,
            entries.OUTCOME,
            entries.REFUND,
            entries.REVERSAL,
            entries.TOMBSTONE,
            entries.REVERSAL_WANTED,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold `recorded` into the tables, in order. Runs of sales, the bulk, go in with two statements."""
        at = 0
        while at < len(recorded):
            end = at
            while end < len(recorded) and recorded[end].kind == entries.SALE:
                end += 1
            if end > at:
                _sales(connection, recorded[at:end])
            else:
                _APPLY[recorded[at].kind](connection, recorded[at])
                end = at + 1
            at = end


def body_of(entry: RecordedEntry, shape: type[WireT]) -> WireT:
    """The typed body of `entry`; that it is canonical was the encoder's care, and is `ledger/verify.py`'s."""
    known = entry.read.get(shape)
    if isinstance(known, shape):
        return known
    body = entry.read[shape] = msgspec.convert(cbor.decode_ours(entry.body), shape)
    return body


def terminal_of(entry: RecordedEntry) -> str:
    """The name of the terminal that caused `entry`."""
    return entry.actor.removeprefix("terminal:")


def _sales(connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
    request_rows = []
    payment_rows = []
    for entry in recorded:
        body = body_of(entry, entries.SaleEntry)
        request_rows.append(_request_row(entry, body.asked, "payment", body.asked.key))
        payment_rows.append(_payment_row(entry, body.asked, body.sale, PaymentState.APPROVED))
    insert_rows(connection, _INTO_REQUESTS, request_rows)
    insert_rows(connection, _INTO_PAYMENTS, payment_rows)


def _intent(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.IntentEntry)
    operation = body.operation
    if body.sale is not None and body.asked is not None:
        connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, "payment", body.payment))
        connection.execute(_INSERT_PAYMENT, _payment_row(entry, body.asked, body.sale, PaymentState.CHECKING))
    else:
        verb = "refund" if operation.kind == OperationKind.REFUND else "reversal"
        if body.asked is not None:
            connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, verb, body.payment))
            connection.execute(
                "UPDATE payments SET undo = ?, undo_verb = ? WHERE key = ?", (body.asked.key, verb, body.payment)
            )
        connection.execute(
            "UPDATE payments SET state = ?, last = ?, code = NULL WHERE key = ?",
            (PaymentState.CHECKING, entry.seq, body.payment),
        )
    connection.execute(
        "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
        (
            operation.id,
            body.payment,
            operation.kind,
            OperationState.PREPARED,
            operation.provider_key,
            operation.amount,
            operation.currency,
            terminal_of(entry),
            entry.time_ms,
            entry.seq,
            operation.target,
            operation.source,
        ),
    )


def _outcome(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.OutcomeEntry)
    kind, state = connection.execute("SELECT kind, state FROM operations WHERE id = ?", (body.operation,)).fetchone()
    following = advance(OperationState(state), OperationState(body.state))
    connection.execute(
        "UPDATE operations SET state = ?, reference = coalesce(?, reference), code = ? WHERE id = ?",
        (following, body.reference, body.code, body.operation),
    )
    after = STATE_AFTER[OperationKind(kind), following]
    # A payment whose reversal is wanted is never told as approved: it stays "being checked" until it is reversed.
    connection.execute(
        "UPDATE payments SET state = CASE WHEN ? AND undo IS NOT NULL THEN ? ELSE ? END, last = ?, code = ?"
        " WHERE key = ?",
        (
            kind == OperationKind.AUTHORISE and after is PaymentState.APPROVED,
            PaymentState.CHECKING,
            after,
            entry.seq,
            body.code,
            body.payment,
        ),
    )
    if kind == OperationKind.AUTHORISE and body.reference is not None:
        connection.execute("UPDATE payments SET reference = ? WHERE key = ?", (body.reference, body.payment))
    if kind != OperationKind.AUTHORISE and after is PaymentState.APPROVED:
        # The provider refused to give the money back: the payment stands and may be refunded again.
        connection.execute("UPDATE payments SET undo = NULL, undo_verb = NULL WHERE key = ?", (body.payment,))


def _undo(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.UndoEntry)
    state = PaymentState.REFUNDED if entry.kind == entries.REFUND else PaymentState.REVERSED
    if body.asked is not None:
        connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, entry.kind, body.payment))
        connection.execute(
            "UPDATE payments SET undo = ?, undo_verb = ? WHERE key = ?", (body.asked.key, entry.kind, body.payment)
        )
    connection.execute("UPDATE payments SET state = ?, last = ? WHERE key = ?", (state, entry.seq, body.payment))


def _tombstone(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.TombstoneEntry)
    connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, "reversal", body.payment))
    connection.execute(
        _INSERT_REQUEST, (body.payment, "payment", terminal_of(entry), CANCELLED_PAYLOAD, body.payment, entry.seq)
    )
    connection.execute(
        _INSERT_PAYMENT,
        (body.payment, terminal_of(entry), PaymentState.CANCELLED, "", 0, 0, 0, 0, entry.seq, entry.seq),
    )


def _reversal_wanted(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.ReversalWantedEntry)
    connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, "reversal", body.payment))
    connection.execute(
        "UPDATE payments SET undo = ?, undo_verb = 'reversal', last = ? WHERE key = ?",
        (body.asked.key, entry.seq, body.payment),
    )


_APPLY: Final = {
    entries.INTENT: _intent,
    entries.OUTCOME: _outcome,
    entries.REFUND: _undo,
    entries.REVERSAL: _undo,
    entries.TOMBSTONE: _tombstone,
    entries.REVERSAL_WANTED: _reversal_wanted,
}

_INTO_REQUESTS: Final = "INSERT INTO requests VALUES"
_INTO_PAYMENTS: Final = (
    "INSERT INTO payments (key, terminal, state, currency, total, cash, card, sold_at_ms, first, last) VALUES"
)
_INSERT_REQUEST: Final = f"{_INTO_REQUESTS} (?, ?, ?, ?, ?, ?)"
_INSERT_PAYMENT: Final = f"{_INTO_PAYMENTS} (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _request_row(
    entry: RecordedEntry, asked: entries.Asked, verb: str, payment: bytes
) -> tuple[bytes, str, str, bytes, bytes, int]:
    return asked.key, verb, terminal_of(entry), asked.commitments[entries.PAYLOAD], payment, entry.seq


def _payment_row(
    entry: RecordedEntry, asked: entries.Asked, sale: entries.SaleFacts, state: PaymentState
) -> tuple[bytes, str, str, str, int, int, int, int, int, int]:
    cash = _tendered(sale.tenders, "cash") - sale.change
    card = _tendered(sale.tenders, "card")
    ensure(cash >= 0, "change never exceeds the cash of a recorded sale")
    return (
        asked.key,
        terminal_of(entry),
        state,
        sale.currency,
        sale.total,
        cash,
        card,
        sale.sold_at_ms,
        entry.seq,
        entry.seq,
    )


def _tendered(tenders: tuple[TenderBody, ...], kind: str) -> int:
    return sum(tender.amount_minor for tender in tenders if tender.kind == kind)
