"""Tables of the payment domain, derived from entries alone.

`requests` remembers every key for its 90 days and longer, `payments` says how each payment stands, `operations` holds
every attempt at a provider; refunds have two tables of their own (`refund_rows.py`), retries one (`retry_rows.py`).
Rebuilding them from the log gives the same rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.rows import insert_rows
from appliance.model.invariants import ensure
from appliance.model.operation import FIRST_PROVIDER, SALES, OperationKind, OperationState, advance
from appliance.model.payment import STATE_AFTER, PaymentState
from appliance.model.sale import MOVED_BY_PROVIDERS
from appliance.payment import part_rows, refund_rows, retry_rows
from appliance.payment.entry_body import VERBS, body_of, state_after_refund
from appliance.wire import entries, till_entries
from appliance.wire.requests import TenderBody

CANCELLED_PAYLOAD: Final = bytes(32)
"""Commitment that a tombstone puts in the place of the payment that never came."""

_KEEPS_MONEY: Final = (None, PaymentState.APPROVED, PaymentState.AUTHORISED, PaymentState.ACCEPTED_OFFLINE)
_CHANGE_PAYMENT: Final = (
    "UPDATE payments SET last = ?, code = ?,"
    " state = CASE WHEN ? AND reversal IS NOT NULL THEN 'being_checked'"
    " ELSE coalesce(?, CASE WHEN cash_back + card_back + stated_back + voucher_back > 0"
    " THEN 'partly_refunded' ELSE 'approved' END) END"
    " WHERE key = ?"
)


class PaymentProjection:
    """Keeps the tables in step with the log, in the writer's transaction."""

    name: Final = "payment"
    tables: Final = (
        "requests",
        "payments",
        "operations",
        *retry_rows.TABLES,
        *refund_rows.TABLES,
        *part_rows.TABLES,
    )
    schema: Final = (
        # Every key that a terminal used, whatever for. payload: the entry's commitment to it. payment: the key of the
        # payment that the request is about; for a payment, its own; null for what is done at the till.
        "CREATE TABLE requests (key BLOB PRIMARY KEY, verb TEXT NOT NULL, terminal TEXT NOT NULL,"
        " payload BLOB NOT NULL, payment BLOB, seq INTEGER NOT NULL) WITHOUT ROWID",
        # total: what it pays of its sale. cash, card (what a provider moves), stated, voucher: as tendered, or what was
        # captured or taken of it; *_back: given back. first,
        # last: entries that a receipt proves. is_charged: the card was. held: what its bank holds instead, until
        # capture_before (Unix ms). reversal: key of the request after which the payment must not stand, its own where
        # a later try outlived it. vouchers: what was sold with it as such.
        "CREATE TABLE payments (key BLOB PRIMARY KEY, terminal TEXT NOT NULL, state TEXT NOT NULL,"
        " currency TEXT NOT NULL, total INTEGER NOT NULL, cash INTEGER NOT NULL, card INTEGER NOT NULL,"
        " sold_at_ms INTEGER NOT NULL,"
        " first INTEGER NOT NULL, last INTEGER NOT NULL, is_charged INTEGER NOT NULL DEFAULT 0,"
        " cash_back INTEGER NOT NULL DEFAULT 0, card_back INTEGER NOT NULL DEFAULT 0,"
        " stated INTEGER NOT NULL DEFAULT 0, stated_back INTEGER NOT NULL DEFAULT 0,"
        " voucher INTEGER NOT NULL DEFAULT 0, voucher_back INTEGER NOT NULL DEFAULT 0,"
        " vouchers INTEGER NOT NULL DEFAULT 0,"
        " held INTEGER NOT NULL DEFAULT 0, capture_before INTEGER,"
        " reversal BLOB, reference TEXT, code TEXT) WITHOUT ROWID",
        "CREATE TABLE operations (id TEXT PRIMARY KEY, payment BLOB NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,"
        " provider_key TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, terminal TEXT NOT NULL,"
        " prepared_ms INTEGER NOT NULL, intent INTEGER NOT NULL, target TEXT, source TEXT, reference TEXT, code TEXT,"
        " request BLOB, held INTEGER NOT NULL, provider TEXT NOT NULL, offline INTEGER NOT NULL DEFAULT 0,"
        " offline_limit TEXT, offline_left INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
        "CREATE INDEX operations_open ON operations (prepared_ms) WHERE state IN ('prepared', 'unknown')",
        "CREATE INDEX operations_by_reference ON operations (reference) WHERE reference IS NOT NULL",
        "CREATE INDEX payments_being_undone ON payments (first) WHERE state = 'being_checked' AND reversal IS NOT NULL",
        "CREATE INDEX payments_waiting ON payments (first) WHERE state IN ('being_checked', 'accepted_offline')",
        "CREATE INDEX payments_held ON payments (capture_before) WHERE state = 'authorised'",
        *retry_rows.SCHEMA,
        *refund_rows.SCHEMA,
        *part_rows.SCHEMA,
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
            entries.SALE_GIVEN_UP,
            *till_entries.ASKED,
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


def _sales(connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
    request_rows = []
    payment_rows = []
    for entry in recorded:
        body = body_of(entry, entries.SaleEntry)
        request_rows.append(_request_row(entry, body.asked, "payment", body.asked.key))
        payment_rows.append(_payment_row(entry, body.asked, body.sale, PaymentState.APPROVED))
        retry_rows.link(connection, body.asked.key, body.retry)
        part_rows.begin(connection, entry.seq, body.asked.key, body.sale)
    insert_rows(connection, _INTO_REQUESTS, request_rows)
    insert_rows(connection, _INTO_PAYMENTS, payment_rows)


def _intent(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.IntentEntry)
    operation = body.operation
    request = body.request if body.asked is None else body.asked.key
    if body.sale is not None and body.asked is not None:
        connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, "payment", body.payment))
        connection.execute(_INSERT_PAYMENT, _payment_row(entry, body.asked, body.sale, PaymentState.CHECKING))
        retry_rows.link(connection, body.payment, body.retry)
        part_rows.begin(connection, entry.seq, body.payment, body.sale)
    else:
        if body.asked is not None:
            _ask(connection, entry, body.asked, VERBS[OperationKind(operation.kind)], body.payment)
        if body.refund is not None:
            refund_rows.begin(connection, entry.seq, body)
        elif operation.kind == OperationKind.REFUND:
            refund_rows.move(connection, request, PaymentState.CHECKING, entry.seq, code=None)
        # While its bank is asked a payment is what it was: accepted offline.
        following = None if operation.kind == OperationKind.FORWARD else PaymentState.CHECKING
        connection.execute(
            "UPDATE payments SET state = coalesce(?, state), last = ?, code = NULL WHERE key = ?",
            (following, entry.seq, body.payment),
        )
    connection.execute(
        "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?, ?, ?, ?, ?)",
        (
            operation.id,
            body.payment,
            operation.kind,
            OperationState.PREPARED,
            operation.provider_key,
            operation.amount,
            operation.currency,
            entries.terminal_of(entry.actor),
            entry.time_ms,
            entry.seq,
            operation.target,
            operation.source,
            request,
            operation.held,
            operation.provider or FIRST_PROVIDER,
            operation.offline,
            operation.offline_limit,
            operation.offline_left,
        ),
    )


def _ask(connection: sqlite3.Connection, entry: RecordedEntry, asked: entries.Asked, verb: str, payment: bytes) -> None:
    """A terminal asks something of a payment that stands."""
    connection.execute(_INSERT_REQUEST, _request_row(entry, asked, verb, payment))
    if verb == "reversal":
        connection.execute("UPDATE payments SET reversal = ? WHERE key = ?", (asked.key, payment))


def _outcome(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.OutcomeEntry)
    row = connection.execute("SELECT kind, state FROM operations WHERE id = ?", (body.operation,)).fetchone()
    kind, following = OperationKind(row[0]), advance(OperationState(row[1]), OperationState(body.state))
    connection.execute(
        "UPDATE operations SET state = ?, reference = coalesce(?, reference), code = ? WHERE id = ?",
        (following, body.reference, body.code, body.operation),
    )
    after = STATE_AFTER[kind, following]
    keeps_money = after in _KEEPS_MONEY or (
        # What a lost card was not alone in paying is still to be given back, where that was asked for.
        after is PaymentState.DECLINED_AFTER_HANDOVER and _has_more(connection, body.payment)
    )
    if kind in SALES:
        connection.execute(
            "UPDATE payments SET reference = coalesce(?, reference) WHERE key = ?", (body.reference, body.payment)
        )
    _move_money(connection, kind, following, body)
    # A payment whose reversal is wanted is never told as standing: it stays "being checked" until it is reversed.
    connection.execute(_CHANGE_PAYMENT, (entry.seq, body.code, keeps_money, after, body.payment))
    if kind is OperationKind.REFUND:
        refund_rows.move(connection, body.request, after, entry.seq, code=body.code)


def _has_more(connection: sqlite3.Connection, payment: bytes) -> bool:
    """Whether anything but a card paid."""
    asked = "SELECT cash + stated + voucher > 0 FROM payments WHERE key = ?"
    return bool(connection.execute(asked, (payment,)).fetchone()[0])


def _move_money(
    connection: sqlite3.Connection, kind: OperationKind, state: OperationState, body: entries.OutcomeEntry
) -> None:
    """What is charged and what is held, once an operation has its end."""
    match kind, state:
        case ((OperationKind.AUTHORISE | OperationKind.FORWARD), OperationState.CONFIRMED):
            connection.execute("UPDATE payments SET is_charged = 1 WHERE key = ?", (body.payment,))
            if body.amount is not None:
                _took_less(connection, body, body.amount)
        case OperationKind.RESERVE, OperationState.CONFIRMED:
            connection.execute(
                "UPDATE payments SET held = card, capture_before = ? WHERE key = ?", (body.capture_before, body.payment)
            )
        case OperationKind.CAPTURE, OperationState.CONFIRMED:
            connection.execute(
                "UPDATE payments SET is_charged = 1, held = 0, card = ? WHERE key = ?", (body.amount, body.payment)
            )
        case OperationKind.CANCEL, OperationState.CONFIRMED:
            connection.execute("UPDATE payments SET held = 0 WHERE key = ?", (body.payment,))
        case ((OperationKind.CANCEL | OperationKind.REVERSE), OperationState.REJECTED):
            # The provider would not give it up or back: the payment stands, and is not tried again by itself.
            connection.execute(
                "UPDATE payments SET reversal = NULL, capture_before = NULL WHERE key = ?", (body.payment,)
            )
        case _:
            return


def _took_less(connection: sqlite3.Connection, body: entries.OutcomeEntry, amount: int) -> None:
    """A card alone, without a tip: what it took is what the payment covers."""
    connection.execute("UPDATE payments SET card = ?1, total = ?1 WHERE key = ?2", (amount, body.payment))
    connection.execute("UPDATE operations SET amount = ? WHERE id = ?", (amount, body.operation))
    part_rows.took_less(connection, body.payment, amount)


def _undo(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.UndoEntry)
    if body.asked is not None:
        _ask(connection, entry, body.asked, entry.kind, body.payment)
    state = PaymentState.REVERSED if entry.kind == entries.REVERSAL else state_after_refund(body)
    if entry.kind == entries.REFUND:
        refund_rows.finish(connection, entry.seq, body, state)
        part_rows.refund(connection, body.payment)
    connection.execute(
        "UPDATE payments SET last = ?, code = NULL, cash_back = cash_back + ?, card_back = card_back + ?,"
        " stated_back = stated_back + ?, voucher_back = voucher_back + ?,"
        " state = CASE WHEN ? AND reversal IS NOT NULL THEN 'being_checked' ELSE ? END WHERE key = ?",
        (
            entry.seq,
            body.cash,
            body.card,
            body.stated,
            body.voucher,
            state is PaymentState.PARTLY_REFUNDED,
            state,
            body.payment,
        ),
    )


def _tombstone(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.TombstoneEntry)
    terminal = entries.terminal_of(entry.actor)
    if body.asked is not None:
        connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, "reversal", body.payment))
    connection.execute(_INSERT_REQUEST, (body.payment, "payment", terminal, CANCELLED_PAYLOAD, body.payment, entry.seq))
    connection.execute(
        _INSERT_PAYMENT,
        (body.payment, terminal, PaymentState.CANCELLED, "", 0, 0, 0, 0, entry.seq, entry.seq, 0, 0),
    )


def _reversal_wanted(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.ReversalWantedEntry)
    if body.asked is not None:
        _ask(connection, entry, body.asked, "reversal", body.payment)
    else:
        request = body.request or body.payment
        connection.execute("UPDATE payments SET reversal = ? WHERE key = ?", (request, body.payment))
    if body.retry is not None:
        part_rows.outlive(connection, body.payment, body.retry)
    connection.execute(
        "UPDATE payments SET last = ?, state = ? WHERE key = ?", (entry.seq, PaymentState.CHECKING, body.payment)
    )


def _sale_given_up(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.SaleGivenUpEntry)
    connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, "reversal", body.payment))
    part_rows.give_up(connection, body.payment, body.asked.key)


def _at_the_till(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    shape, verb = till_entries.ASKED[entry.kind]
    body = body_of(entry, shape)
    if body.asked is not None:
        connection.execute(_INSERT_REQUEST, _request_row(entry, body.asked, verb, None))
    if isinstance(body, till_entries.VoucherIssuedEntry | till_entries.VoucherVoidedEntry):
        sold = body.amount if entry.kind == till_entries.VOUCHER_ISSUED else -body.amount
        connection.execute("UPDATE payments SET vouchers = vouchers + ? WHERE key = ?", (sold, body.payment))


_APPLY: Final = {
    **dict.fromkeys(till_entries.ASKED, _at_the_till),
    entries.INTENT: _intent,
    entries.OUTCOME: _outcome,
    entries.REFUND: _undo,
    entries.REVERSAL: _undo,
    entries.TOMBSTONE: _tombstone,
    entries.REVERSAL_WANTED: _reversal_wanted,
    entries.SALE_GIVEN_UP: _sale_given_up,
}

_INTO_REQUESTS: Final = "INSERT INTO requests VALUES"
_INTO_PAYMENTS: Final = (
    "INSERT INTO payments"
    " (key, terminal, state, currency, total, cash, card, sold_at_ms, first, last, stated, voucher) VALUES"
)
_INSERT_REQUEST: Final = f"{_INTO_REQUESTS} (?, ?, ?, ?, ?, ?)"
_INSERT_PAYMENT: Final = f"{_INTO_PAYMENTS} (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _request_row(
    entry: RecordedEntry, asked: entries.Asked, verb: str, payment: bytes | None
) -> tuple[bytes, str, str, bytes, bytes | None, int]:
    return asked.key, verb, entries.terminal_of(entry.actor), asked.commitments[entries.PAYLOAD], payment, entry.seq


def _payment_row(
    entry: RecordedEntry, asked: entries.Asked, sale: entries.SaleFacts, state: PaymentState
) -> tuple[bytes, str, str, str, int, int, int, int, int, int, int, int]:
    cash = _tendered(sale.tenders, "cash") - sale.change
    card = sum(_tendered(sale.tenders, kind.value) for kind in MOVED_BY_PROVIDERS)
    ensure(cash >= 0, "change never exceeds the cash of a recorded sale")
    return (
        asked.key,
        entries.terminal_of(entry.actor),
        state,
        sale.currency,
        sale.total - sale.remaining,
        cash,
        card,
        sale.sold_at_ms,
        entry.seq,
        entry.seq,
        _tendered(sale.tenders, "card_stated"),
        _tendered(sale.tenders, "voucher"),
    )


def _tendered(tenders: tuple[TenderBody, ...], kind: str) -> int:
    return sum(tender.amount_minor for tender in tenders if tender.kind == kind)
