"""Tables of what was accepted offline, derived from entries alone.

    open --accepted--> waiting --forward--> forwarding --confirmed, or the bank said no--> (gone)
                          ^  ^------absent------/
                          |-----refused----- withdrawing --confirmed--> (gone)

* `offline` has a row for each card that may be, or was, accepted offline and is not known yet; what is known is gone.
* `offline_exposure` sums the same rows up by till and device, so that a limit is checked without counting a queue.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from appliance.ledger.draft import RecordedEntry
from appliance.model.invariants import present
from appliance.model.operation import FIRST_PROVIDER, OperationKind, OperationState
from appliance.payment.entry_body import body_of
from appliance.wire import entries

_INSERT: Final = (
    "INSERT INTO offline (operation, payment, terminal, provider, device, amount, state, seq, since_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, 'open', ?, ?)"
)
_ACCEPT: Final = "UPDATE offline SET state = 'waiting', reference = ?, seq = ?, since_ms = ? WHERE operation = ?"
_BEGIN: Final = "UPDATE offline SET state = ?, asked_by = ? WHERE payment = ? AND reference = ?"
_BACK: Final = "UPDATE offline SET state = 'waiting', asked_by = NULL, is_bound = is_bound OR ? WHERE operation = ?"
_EXPOSE: Final = (
    "INSERT INTO offline_exposure VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (terminal, provider, device) DO UPDATE SET"
    " reserved = reserved + excluded.reserved, accepted = accepted + excluded.accepted, count = count + excluded.count"
)
_FOUND: Final = "SELECT operation, terminal, provider, device, amount FROM offline"


class OfflineProjection:
    """Keeps the tables in step with the log, in the writer's transaction."""

    name: Final = "offline"
    tables: Final = ("offline", "offline_exposure")
    schema: Final = (
        # operation: the authorisation. device: the tender's source, or the till whose own it is. seq, since_ms: the
        # entry that accepted it, and its time (of an open one its intent's). reference: the device's name for it.
        # asked_by: the forward or withdrawal that runs. is_wanted: the payment is to be reversed. is_bound: it cannot
        # be withdrawn, its bank speaks first.
        "CREATE TABLE offline (operation TEXT PRIMARY KEY, payment BLOB NOT NULL, terminal TEXT NOT NULL,"
        " provider TEXT NOT NULL, device TEXT NOT NULL, amount INTEGER NOT NULL, state TEXT NOT NULL,"
        " seq INTEGER NOT NULL, since_ms INTEGER NOT NULL, reference TEXT, asked_by TEXT,"
        " is_wanted INTEGER NOT NULL DEFAULT 0, is_bound INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
        "CREATE INDEX offline_by_payment ON offline (payment)",
        "CREATE INDEX offline_oldest ON offline (seq) WHERE state <> 'open'",
        "CREATE INDEX offline_queue ON offline (provider, device, seq)"
        " WHERE state = 'waiting' AND is_wanted <= is_bound",
        "CREATE TABLE offline_exposure (terminal TEXT NOT NULL, provider TEXT NOT NULL, device TEXT NOT NULL,"
        " reserved INTEGER NOT NULL, accepted INTEGER NOT NULL, count INTEGER NOT NULL,"
        " PRIMARY KEY (terminal, provider, device)) WITHOUT ROWID",
    )
    kinds: Final = frozenset({entries.INTENT, entries.OUTCOME, entries.REVERSAL_WANTED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold `recorded` into the tables, in order."""
        for entry in recorded:
            _APPLY[entry.kind](connection, entry)


def _intent(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.IntentEntry)
    operation = body.operation
    if operation.offline:
        terminal = entries.terminal_of(entry.actor)
        provider, device = operation.provider or FIRST_PROVIDER, operation.source or terminal
        place = (terminal, provider, device)
        connection.execute(_INSERT, (operation.id, body.payment, *place, operation.amount, entry.seq, entry.time_ms))
        connection.execute(_EXPOSE, (*place, operation.amount, 0, 0))
    elif operation.kind in (OperationKind.FORWARD, OperationKind.WITHDRAW):
        state = "forwarding" if operation.kind == OperationKind.FORWARD else "withdrawing"
        connection.execute(_BEGIN, (state, operation.id, body.payment, operation.target))


def _outcome(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, entries.OutcomeEntry)
    if body.state == OperationState.UNKNOWN:
        return
    if body.kind in (OperationKind.FORWARD, OperationKind.WITHDRAW):
        row = connection.execute(
            f"{_FOUND} WHERE payment = ? AND asked_by = ?", (body.payment, body.operation)
        ).fetchone()
        _end(connection, body, present(row, "what is forwarded or withdrawn was accepted offline"))
    elif body.kind in (OperationKind.OFFER, OperationKind.AUTHORISE):
        # An offer's end frees what it reserved; the intent to take the money reserves it anew, in the same commit.
        row = connection.execute(f"{_FOUND} WHERE operation = ?", (body.operation,)).fetchone()
        if row is not None:
            _accept_or_not(connection, entry, body, row)


def _accept_or_not(
    connection: sqlite3.Connection,
    entry: RecordedEntry,
    body: entries.OutcomeEntry,
    row: tuple[str, str, str, str, int],
) -> None:
    operation, *place, amount = row
    if body.state == OperationState.ACCEPTED:
        connection.execute(_ACCEPT, (body.reference, entry.seq, entry.time_ms, operation))
        connection.execute(_EXPOSE, (*place, -amount, amount, 1))
    else:
        connection.execute("DELETE FROM offline WHERE operation = ?", (operation,))
        connection.execute(_EXPOSE, (*place, -amount, 0, 0))


def _end(connection: sqlite3.Connection, body: entries.OutcomeEntry, row: tuple[str, str, str, str, int]) -> None:
    """A forward or withdrawal came to its end: it is known now, or waits again."""
    operation, *place, amount = row
    is_forward = body.kind == OperationKind.FORWARD
    is_known = body.state == OperationState.CONFIRMED or (is_forward and body.state == OperationState.REJECTED)
    if is_known:
        connection.execute("DELETE FROM offline WHERE operation = ?", (operation,))
        connection.execute(_EXPOSE, (*place, 0, -amount, -1))
    else:
        is_bound = not is_forward and body.state == OperationState.REJECTED
        connection.execute(_BACK, (is_bound, operation))


def _reversal_wanted(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    payment = body_of(entry, entries.ReversalWantedEntry).payment
    connection.execute("UPDATE offline SET is_wanted = 1 WHERE payment = ?", (payment,))


_APPLY: Final = {entries.INTENT: _intent, entries.OUTCOME: _outcome, entries.REVERSAL_WANTED: _reversal_wanted}
