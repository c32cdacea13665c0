"""Tables of refunds, derived from entries alone: what each request gave, and how much of each line went back.

A row of `refunds` keeps the one result of its key: what later refunds do to the payment does not change it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from appliance.model.payment import PaymentState
from appliance.payment import part_rows
from appliance.payment.entry_body import given_minor
from appliance.wire import entries

TABLES: Final = ("refunds", "refunded_lines")
SCHEMA: Final = (
    # amount: what it gives, by all tenders. back: given back of the payment in all, after it. first: the entry that
    # says which lines, and why.
    "CREATE TABLE refunds (key BLOB PRIMARY KEY, payment BLOB NOT NULL, amount INTEGER NOT NULL,"
    " back INTEGER NOT NULL, state TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, code TEXT)"
    " WITHOUT ROWID",
    "CREATE TABLE refunded_lines (payment BLOB NOT NULL, line INTEGER NOT NULL, quantity INTEGER NOT NULL,"
    " PRIMARY KEY (payment, line)) WITHOUT ROWID",
)


def begin(connection: sqlite3.Connection, seq: int, body: entries.IntentEntry) -> None:
    """A provider is asked for the card's part; nothing is given yet."""
    if body.refund is not None and body.asked is not None:
        _insert(connection, body.asked.key, body.payment, given_minor(body.refund), seq)


def move(
    connection: sqlite3.Connection, key: bytes | None, state: PaymentState | None, seq: int, code: str | None
) -> None:
    """Its operation went on; without a state it gave nothing, and the payment stands as before."""
    connection.execute(
        "UPDATE refunds SET last = ?, code = ?,"
        " state = coalesce(?, CASE WHEN back > 0 THEN 'partly_refunded' ELSE 'approved' END) WHERE key = ?",
        (seq, code, state, key),
    )


def finish(connection: sqlite3.Connection, seq: int, body: entries.UndoEntry, state: PaymentState) -> None:
    """It gave what it says."""
    if body.asked is not None:
        _insert(connection, body.asked.key, body.payment, given_minor(body), seq)
    key = body.request if body.asked is None else body.asked.key
    connection.execute(
        "UPDATE refunds SET state = ?, back = back + amount, last = ?, code = NULL WHERE key = ?",
        (state, seq, key),
    )
    connection.executemany(
        "INSERT INTO refunded_lines VALUES (?, ?, ?)"
        " ON CONFLICT (payment, line) DO UPDATE SET quantity = quantity + excluded.quantity",
        [(part_rows.sale_of(connection, body.payment), line.index, line.quantity_thousandths) for line in body.lines],
    )


def _insert(connection: sqlite3.Connection, key: bytes, payment: bytes, amount: int, seq: int) -> None:
    connection.execute(
        "INSERT INTO refunds SELECT ?, key, ?, cash_back + card_back + stated_back + voucher_back,"
        " 'being_checked', ?, ?, NULL"
        " FROM payments WHERE key = ?",
        (key, amount, seq, seq, payment),
    )
