"""Tables of sales that are paid in parts, derived from entries alone: which payments pay which sale.

How each part stands is told by `payments`, as of every other payment.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from appliance.wire import entries

TABLES: Final = ("sales_in_parts", "sale_parts")
SCHEMA: Final = (
    # key: of the first part. closed: key of the request that gave the sale up, or of the try in its place.
    "CREATE TABLE sales_in_parts (key BLOB PRIMARY KEY, total INTEGER NOT NULL, closed BLOB,"
    " is_refunded INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    # seq: of the part's first entry. covers: how much of the total it is for. is_partial: it may take less.
    "CREATE TABLE sale_parts (sale BLOB NOT NULL, seq INTEGER NOT NULL, payment BLOB NOT NULL UNIQUE,"
    " covers INTEGER NOT NULL, is_partial INTEGER NOT NULL, PRIMARY KEY (sale, seq)) WITHOUT ROWID",
)


def is_in_parts(sale: entries.SaleFacts) -> bool:
    """Other payments may pay the same sale."""
    return sale.part_of is not None or sale.remaining > 0 or sale.partial == "accepted"


def begin(connection: sqlite3.Connection, seq: int, payment: bytes, sale: entries.SaleFacts) -> None:
    """A payment of `sale` begins."""
    if not is_in_parts(sale):
        return
    if sale.part_of is None:
        connection.execute("INSERT INTO sales_in_parts (key, total) VALUES (?, ?)", (payment, sale.total))
    connection.execute(
        "INSERT INTO sale_parts VALUES (?, ?, ?, ?, ?)",
        (sale.part_of or payment, seq, payment, sale.total - sale.remaining, sale.partial == "accepted"),
    )


def took_less(connection: sqlite3.Connection, payment: bytes, amount: int) -> None:
    """The provider took `amount`, which is less than it was asked for."""
    connection.execute("UPDATE sale_parts SET covers = ? WHERE payment = ?", (amount, payment))


def give_up(connection: sqlite3.Connection, sale: bytes, request: bytes) -> None:
    """`request` gave it up."""
    connection.execute("UPDATE sales_in_parts SET closed = ? WHERE key = ?", (request, sale))


def outlive(connection: sqlite3.Connection, payment: bytes, retry: bytes) -> None:
    """`retry` stands in the place of `payment`; of a whole sale where that is its first part and `retry` no other."""
    connection.execute(
        "UPDATE sales_in_parts SET closed = ?1 WHERE key = ?2"
        " AND NOT EXISTS (SELECT 1 FROM sale_parts WHERE payment = ?1 AND sale = ?2)",
        (retry, payment),
    )


def refund(connection: sqlite3.Connection, payment: bytes) -> None:
    """A refund gave back of this part."""
    connection.execute(
        "UPDATE sales_in_parts SET is_refunded = 1 WHERE key = (SELECT sale FROM sale_parts WHERE payment = ?)",
        (payment,),
    )


def sale_of(connection: sqlite3.Connection, payment: bytes) -> bytes:
    """The payment that has the lines: the first part of its sale, else itself."""
    row = connection.execute("SELECT sale FROM sale_parts WHERE payment = ?", (payment,)).fetchone()
    return payment if row is None else bytes(row[0])
