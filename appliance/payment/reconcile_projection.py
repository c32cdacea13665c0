"""Tables of reconciliation, derived from entries alone.

* `reconcile_moves` holds card money that operations moved, until a later day than the one in which it was settled: so
  the newest day can be looked at again, nothing is taken by no day, and a line that differs finds its movement as long
  as it does. A movement belongs to the first reconciled day that ends after it; one whose time lies in a day that was
  reconciled before goes to the next.
* `reconcile_breaks` keeps every break; one is open while `closed` is null.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import RecordedEntry
from appliance.model.operation import OperationKind, OperationState
from appliance.payment.entry_body import body_of
from appliance.wire import entries, reconcile_entries

_SIGN: Final = {
    OperationKind.AUTHORISE: 1,
    OperationKind.CAPTURE: 1,
    OperationKind.FORWARD: 1,
    OperationKind.REFUND: -1,
    OperationKind.REVERSE: -1,
}
"""What moves card money; holding it and giving it up do not."""
FIRST_PROVIDER: Final = "stripe"
"""Whom intents mean: they name no provider while there is one only."""
_SETTLE: Final = (
    "UPDATE reconcile_moves SET settled = CASE WHEN operation IN (SELECT subject FROM reconcile_breaks"
    " WHERE provider = reconcile_moves.provider AND closed IS NULL)"
    " THEN NULL ELSE ? END WHERE provider = ? AND taken IS NOT NULL AND (settled IS NULL OR settled = ?)"
)


class ReconcileProjection:
    """Keeps the tables in step with the log, in the writer's transaction."""

    name: Final = "reconcile"
    tables: Final = ("reconcile_asked", "reconcile_moves", "reconcile_days", "reconcile_breaks")
    schema: Final = (
        # amount: signed; what an operation will have moved once it is confirmed.
        "CREATE TABLE reconcile_asked (operation TEXT PRIMARY KEY, provider TEXT NOT NULL, amount INTEGER NOT NULL,"
        " currency TEXT NOT NULL) WITHOUT ROWID",
        # taken: the day that took it; settled: the day from which on nothing about it was open.
        "CREATE TABLE reconcile_moves (operation TEXT PRIMARY KEY, provider TEXT NOT NULL, payment BLOB NOT NULL,"
        " amount INTEGER NOT NULL, currency TEXT NOT NULL, at_ms INTEGER NOT NULL, seq INTEGER NOT NULL, taken TEXT,"
        " settled TEXT) WITHOUT ROWID",
        "CREATE TABLE reconcile_days (provider TEXT NOT NULL, day TEXT NOT NULL, seq INTEGER NOT NULL,"
        " PRIMARY KEY (provider, day)) WITHOUT ROWID",
        # facts: the break as its entry has it; opened, closed: entries; closed_day: the day in which it closed.
        "CREATE TABLE reconcile_breaks (provider TEXT NOT NULL, subject TEXT NOT NULL, type TEXT NOT NULL,"
        " since TEXT NOT NULL, facts BLOB NOT NULL, opened INTEGER NOT NULL, closed INTEGER, closed_day TEXT,"
        " accepted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (provider, subject, type)) WITHOUT ROWID",
        "CREATE INDEX reconcile_breaks_open ON reconcile_breaks (provider, since) WHERE closed IS NULL",
    )
    kinds: Final = frozenset(
        {
            entries.INTENT,
            entries.OUTCOME,
            reconcile_entries.RECONCILED,
            reconcile_entries.RECONCILED_MORE,
            reconcile_entries.BREAK_ACCEPTED,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold `recorded` into the tables, in order."""
        for entry in recorded:
            _APPLY[entry.kind](connection, entry)


def _intent(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    operation = body_of(entry, entries.IntentEntry).operation
    sign = _SIGN.get(OperationKind(operation.kind))
    if sign is not None:
        connection.execute(
            "INSERT INTO reconcile_asked VALUES (?, ?, ?, ?)",
            (operation.id, operation.provider or FIRST_PROVIDER, sign * operation.amount, operation.currency),
        )


def _outcome(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.OutcomeEntry)
    sign = _SIGN.get(OperationKind(body.kind))
    if body.state == OperationState.UNKNOWN or sign is None:
        return
    if body.state == OperationState.CONFIRMED:
        took = None if body.amount is None else sign * body.amount  # a card may be approved for less
        connection.execute(
            "INSERT INTO reconcile_moves SELECT operation, provider, ?, coalesce(?, amount), currency, ?, ?, NULL, NULL"
            " FROM reconcile_asked WHERE operation = ?",
            (body.payment, took, entry.time_ms, entry.seq, body.operation),
        )
    connection.execute("DELETE FROM reconcile_asked WHERE operation = ?", (body.operation,))


def _reconciled(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, reconcile_entries.ReconciledEntry)
    connection.execute("INSERT OR REPLACE INTO reconcile_days VALUES (?, ?, ?)", (body.provider, body.day, entry.seq))
    connection.execute(
        "UPDATE reconcile_moves SET taken = ? WHERE provider = ? AND taken IS NULL AND at_ms < ? AND seq <= ?",
        (body.day, body.provider, body.ends_ms, body.last),
    )
    _change(connection, entry.seq, body)


def _reconciled_more(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    _change(connection, entry.seq, body_of(entry, reconcile_entries.ReconciledMoreEntry))


def _change(
    connection: sqlite3.Connection,
    seq: int,
    body: reconcile_entries.ReconciledEntry | reconcile_entries.ReconciledMoreEntry,
) -> None:
    """Close and open breaks, then settle which movements are still looked for."""
    connection.executemany(
        "UPDATE reconcile_breaks SET closed = ?, closed_day = ? WHERE provider = ? AND subject = ? AND type = ?",
        [(seq, body.day, body.provider, each.subject, each.type) for each in body.closed],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO reconcile_breaks (provider, subject, type, since, facts, opened)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (body.provider, each.subject, each.type, each.since, cbor.encode_ordered(_plain(each)), seq)
            for each in body.opened
        ],
    )
    connection.execute(_SETTLE, (body.day, body.provider, body.day))
    connection.execute("DELETE FROM reconcile_moves WHERE provider = ? AND settled < ?", (body.provider, body.day))


def _accepted(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, reconcile_entries.BreakAcceptedEntry)
    connection.execute(
        "UPDATE reconcile_breaks SET closed = ?, accepted = 1,"
        " closed_day = (SELECT max(day) FROM reconcile_days WHERE provider = ?)"
        " WHERE provider = ? AND subject = ? AND type = ?",
        (entry.seq, body.provider, body.provider, body.subject, body.type),
    )
    connection.execute(
        "UPDATE reconcile_moves SET settled = (SELECT max(day) FROM reconcile_days WHERE provider = ?)"
        " WHERE provider = ? AND operation = ? AND settled IS NULL AND operation NOT IN"
        " (SELECT subject FROM reconcile_breaks WHERE provider = reconcile_moves.provider AND closed IS NULL)",
        (body.provider, body.provider, body.subject),
    )


def _plain(facts: reconcile_entries.BreakFacts) -> object:
    return msgspec.to_builtins(facts, builtin_types=(bytes,))


_APPLY: Final = {
    entries.INTENT: _intent,
    entries.OUTCOME: _outcome,
    reconcile_entries.RECONCILED: _reconciled,
    reconcile_entries.RECONCILED_MORE: _reconciled_more,
    reconcile_entries.BREAK_ACCEPTED: _accepted,
}
