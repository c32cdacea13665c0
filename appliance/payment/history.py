"""A payment's history: every entry that concerns it, in the order of the log.

Owns one narrow table, for entries about a payment that exists already or is being asked for: a cash sale is found
through `payments` and costs no row here.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from typing import Final

from appliance.crypto import cbor
from appliance.ledger.draft import RecordedEntry
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.invariants import ensure
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.wire import entries

HISTORY_ENTRIES_MAX: Final = 1_000
"""More has only a card that was tried to be forwarded for days: those tries are left out then."""


class HistoryProjection:
    """Which entries are about which payment."""

    name: Final = "history"
    tables: Final = ("payment_entries",)
    schema: Final = (
        "CREATE TABLE payment_entries (payment BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (payment, seq))"
        " WITHOUT ROWID",
    )
    kinds: Final = frozenset(
        {
            entries.INTENT,
            entries.OUTCOME,
            entries.REFUND,
            entries.REVERSAL,
            entries.TOMBSTONE,
            entries.REVERSAL_WANTED,
            entries.SALE_GIVEN_UP,
            entries.CONTRADICTED,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """One row per entry; each of these kinds names its payment in `payment`."""
        connection.executemany(
            "INSERT INTO payment_entries VALUES (?, ?)", [(_payment_of(entry), entry.seq) for entry in recorded]
        )


def history_seqs(connection: sqlite3.Connection, key: RequestKey) -> tuple[bytes | None, tuple[int, ...]]:
    """The payment that `key` is about (16 bytes), and the entries that concern it; `key` may be that of a refund.

    An act at the till is about no payment (None), and its one entry is all of its history.

    Raises:
        Rejected: `payment_unknown`.
    """
    row = connection.execute("SELECT payment, seq FROM requests WHERE key = ?", (key.octets,)).fetchone()
    if row is None:
        raise Rejected("payment_unknown", f"no entry concerns {key}")
    payment: bytes | None = row[0]
    if payment is None:
        return None, (int(row[1]),)
    seqs = {seq for (seq,) in connection.execute("SELECT first FROM payments WHERE key = ?", (payment,))}
    asked = "SELECT seq FROM payment_entries WHERE payment = ? ORDER BY seq LIMIT ?"
    seqs.update(seq for (seq,) in connection.execute(asked, (payment, HISTORY_ENTRIES_MAX + 1)))
    if len(seqs) > HISTORY_ENTRIES_MAX:
        return payment, telling_seqs(connection, payment)[:HISTORY_ENTRIES_MAX]
    return payment, tuple(sorted(seqs))


def telling_seqs(connection: sqlite3.Connection, payment: bytes) -> tuple[int, ...]:
    """The entries that concern `payment`, without forwards that never arrived: of those there is no end in an outage.

    One operation at a time: what ends one stands before the intent of the next.
    """
    rows = connection.execute(
        "SELECT p.seq, e.kind, p.seq IN (SELECT intent FROM operations WHERE id > ?2 AND id < ?3"
        " AND kind = 'forward' AND state = 'absent')"
        " FROM payment_entries p LEFT JOIN entries e ON e.seq = p.seq WHERE p.payment = ?1 ORDER BY p.seq",
        (payment, f"{uuid.UUID(bytes=payment)}/", f"{uuid.UUID(bytes=payment)}0"),
    )
    seqs = {seq for (seq,) in connection.execute("SELECT first FROM payments WHERE key = ?", (payment,))}
    is_in_vain = False
    for seq, kind, never_arrived in rows:
        if kind == entries.INTENT:
            is_in_vain = bool(never_arrived)
        if not (is_in_vain and kind in (entries.INTENT, entries.OUTCOME)):
            seqs.add(seq)
    return tuple(sorted(seqs))


def refunded_before(connection: sqlite3.Connection, payment: bytes, seq: int) -> bool:
    """Whether an entry before `seq` gave back a part of the payment."""
    asked = (
        "SELECT 1 FROM payment_entries p JOIN entries e ON e.seq = p.seq WHERE p.payment = ? AND p.seq < ?"
        " AND e.kind = ? LIMIT 1"
    )
    return connection.execute(asked, (payment, seq, entries.REFUND)).fetchone() is not None


def wanted_back_before(connection: sqlite3.Connection, payment: bytes, seq: int) -> bool:
    """Whether the reversal after which the payment must not stand was durable before the entry `seq`."""
    # Where a later try outlived the payment no request asks for its reversal: only the entry says since when.
    asked = (
        "SELECT 1 FROM payments p JOIN requests r ON r.key = p.reversal"
        " WHERE p.key = ?1 AND p.reversal <> p.key AND r.seq < ?2"
        " UNION ALL SELECT 1 FROM payments p JOIN payment_entries h ON h.payment = p.key"
        " JOIN entries e ON e.seq = h.seq"
        " WHERE p.key = ?1 AND p.reversal = p.key AND h.seq < ?2 AND e.kind = ?3 LIMIT 1"
    )
    return connection.execute(asked, (payment, seq, entries.REVERSAL_WANTED)).fetchone() is not None


def _payment_of(entry: RecordedEntry) -> bytes:
    body = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
    payment = body.get("payment") if isinstance(body, dict) else None
    ensure(isinstance(payment, bytes), "entries about a payment name it")
    return payment if isinstance(payment, bytes) else b""
