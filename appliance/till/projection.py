"""Tables of the till, derived from entries alone.

* `till_totals` only grows: what each terminal did with each drawer, from the first entry on. Closing a period copies
  the totals of its drawer, terminal or shop to `till_marks`; a period is the difference. Where a period ends is the
  place of its entry in the log, never a clock: nothing falls between two periods or into both.
* A card payment counts when its outcome confirms it, by then perhaps in another day: `till_open` holds what waits, and
  `till_late` what came after the day of its intent was closed.
* No table depends on a zone or a setting: a close's entry says which day it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from appliance.ledger.draft import RecordedEntry
from appliance.model.operation import OperationKind, OperationState
from appliance.model.till import Scope, Sums, Tally, What, held_minor
from appliance.payment.entry_body import body_of
from appliance.payment.part_rows import is_in_parts
from appliance.till import part_totals
from appliance.till.tally import (
    act_sums,
    captured_sums,
    decode_sums,
    encode_sums,
    less_taken,
    offline_sums,
    sale_sums,
    undo_sums,
    voucher_sums,
)
from appliance.wire import entries, till_entries

_CLOSES: Final = {
    till_entries.DRAWER_CLOSED: Scope.DRAWER,
    till_entries.TERMINAL_CLOSED: Scope.TERMINAL,
    till_entries.DAY_CLOSED: Scope.SHOP,
}
_VOUCHERS: Final = frozenset({till_entries.VOUCHER_ISSUED, till_entries.VOUCHER_VOIDED})
_COLUMN: Final = {Scope.DRAWER: "drawer", Scope.TERMINAL: "terminal"}


class TillProjection:
    """Keeps the tables in step with the log, in the writer's transaction."""

    name: Final = "till"
    tables: Final = (
        "till_totals",
        "till_marks",
        "till_closings",
        "till_days",
        "till_answers",
        "till_drawers",
        "till_counts",
        "till_open",
        "till_held",
        "till_late",
        "till_accepted",
        "till_lost",
        "till_news",
        *part_totals.TABLES,
    )
    schema: Final = (
        # sums: totals by name (tally.py); seq: the last entry that changed them.
        "CREATE TABLE till_totals (terminal TEXT NOT NULL, drawer TEXT NOT NULL, sums BLOB NOT NULL,"
        " seq INTEGER NOT NULL, PRIMARY KEY (terminal, drawer)) WITHOUT ROWID",
        "CREATE TABLE till_marks (scope TEXT NOT NULL, name TEXT NOT NULL, terminal TEXT NOT NULL,"
        " drawer TEXT NOT NULL, sums BLOB NOT NULL, PRIMARY KEY (scope, name, terminal, drawer)) WITHOUT ROWID",
        "CREATE TABLE till_closings (scope TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,"
        " seq INTEGER NOT NULL, PRIMARY KEY (scope, name)) WITHOUT ROWID",
        "CREATE TABLE till_days (day TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE) WITHOUT ROWID",
        # What was answered to the act of entry seq, so that a repeat hears the same; difference is a count's.
        "CREATE TABLE till_answers (seq INTEGER PRIMARY KEY, held INTEGER NOT NULL, difference INTEGER)",
        # Which drawer a terminal uses, where that is not the one of its own name.
        "CREATE TABLE till_drawers (terminal TEXT PRIMARY KEY, drawer TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE till_counts (drawer TEXT PRIMARY KEY, counted INTEGER NOT NULL, seq INTEGER NOT NULL)"
        " WITHOUT ROWID",
        # sums: what an authorisation adds once it is confirmed; null for what gives money back.
        "CREATE TABLE till_open (operation TEXT PRIMARY KEY, payment BLOB NOT NULL, kind TEXT NOT NULL,"
        " amount INTEGER NOT NULL, terminal TEXT NOT NULL, prepared_ms INTEGER NOT NULL, intent INTEGER NOT NULL,"
        " sums BLOB) WITHOUT ROWID",
        # sums: what an authorised payment adds once it is captured, with another tip perhaps; amount: what is held.
        "CREATE TABLE till_held (payment BLOB PRIMARY KEY, amount INTEGER NOT NULL, sums BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE till_late (outcome INTEGER PRIMARY KEY, day TEXT NOT NULL, payment BLOB NOT NULL,"
        " kind TEXT NOT NULL, state TEXT NOT NULL, amount INTEGER NOT NULL, terminal TEXT NOT NULL,"
        " intent INTEGER NOT NULL)",
        # Accepted offline and not known yet. intent: of the sale; asked_by: the forward or withdrawal that runs.
        "CREATE TABLE till_accepted (payment BLOB NOT NULL, reference TEXT NOT NULL, intent INTEGER NOT NULL,"
        " asked_by TEXT, PRIMARY KEY (payment, reference)) WITHOUT ROWID",
        # What a bank declined in the open day after it was accepted offline; day: that of the sale, null: the open one.
        "CREATE TABLE till_lost (outcome INTEGER PRIMARY KEY, day TEXT, payment BLOB NOT NULL, amount INTEGER NOT NULL,"
        " terminal TEXT NOT NULL, intent INTEGER NOT NULL, reference TEXT, code TEXT)",
        # The open day: its first fact (null: none yet), and the last entry that this projection took in.
        "CREATE TABLE till_news (one INTEGER PRIMARY KEY CHECK (one = 1), first_ms INTEGER, last INTEGER NOT NULL)",
        *part_totals.SCHEMA,
    )
    kinds: Final = frozenset(
        {
            entries.SALE,
            entries.INTENT,
            entries.OUTCOME,
            entries.REFUND,
            entries.REVERSAL,
            entries.SALE_GIVEN_UP,
            *till_entries.ACTS,
            *_VOUCHERS,
            *_CLOSES,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold `recorded` into the tables, in order. Runs of sales, the bulk, are added up before they are written."""
        folding = _Folding(connection)
        for entry in recorded:
            folding.add(entry)
        folding.write()


class _Folding:
    """The totals of one call, not written yet: whoever reads tables writes them first."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._drawers: dict[str, str] = {}
        self._tallies: dict[tuple[str, str], tuple[Tally, int]] = {}  # and the entry that changed them last
        self._first_ms: int | None = None
        self._last = -1

    def add(self, entry: RecordedEntry) -> None:
        self._last = entry.seq
        if entry.kind in _CLOSES:
            self._close(entry)
            return
        if self._first_ms is None:
            self._first_ms = entry.time_ms
        terminal = entries.terminal_of(entry.actor)
        if entry.kind == entries.SALE:
            sold = body_of(entry, entries.SaleEntry)
            self._count(terminal, self._begun(entry, terminal, sold.asked.key, sold.sale))
            if is_in_parts(sold.sale):
                self._count(terminal, part_totals.stand(self._connection, sold.asked.key, None))
        elif entry.kind == entries.INTENT:
            self._intent(entry, terminal)
        elif entry.kind == entries.OUTCOME:
            self._outcome(entry, terminal)
        elif entry.kind in till_entries.ACTS:
            self._act(entry, terminal)
        elif entry.kind in _VOUCHERS:
            self._count(terminal, voucher_sums(entry))
        elif entry.kind == entries.SALE_GIVEN_UP:
            part_totals.freeze(self._connection, body_of(entry, entries.SaleGivenUpEntry).payment)
        else:
            self._undo(terminal, body_of(entry, entries.UndoEntry), is_refund=entry.kind == entries.REFUND)

    def write(self) -> None:
        """Everything so far into the tables."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO till_totals VALUES (?, ?, ?, ?)",
            [(*place, encode_sums(tally.sums), seq) for place, (tally, seq) in self._tallies.items()],
        )
        self._tallies = {}
        self._connection.execute(
            "INSERT INTO till_news (one, first_ms, last) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE"
            " SET first_ms = coalesce(first_ms, excluded.first_ms), last = excluded.last",
            (self._first_ms, self._last),
        )
        self._first_ms = None

    def _count(self, terminal: str, more: Sums) -> None:
        place = (terminal, self._drawer(terminal))
        known = self._tallies.get(place)
        tally = self._tally(place) if known is None else known[0]
        tally.add(more)
        self._tallies[place] = (tally, self._last)

    def _tally(self, place: tuple[str, str]) -> Tally:
        """As it was written last: which rates have a total of their own hangs on what came before."""
        row = self._connection.execute(
            "SELECT sums FROM till_totals WHERE terminal = ? AND drawer = ?", place
        ).fetchone()
        return Tally({} if row is None else decode_sums(row[0]))

    def _drawer(self, terminal: str) -> str:
        if terminal not in self._drawers:
            self._drawers[terminal] = drawer_of(self._connection, terminal)
        return self._drawers[terminal]

    def _begun(self, entry: RecordedEntry, terminal: str, payment: bytes, sale: entries.SaleFacts) -> Sums:
        """What the payment adds once it stands."""
        if not is_in_parts(sale):
            return sale_sums(sale)
        return part_totals.begin(self._connection, entry.seq, (terminal, self._drawer(terminal)), payment, sale)

    def _undo(self, terminal: str, undo: entries.UndoEntry, *, is_refund: bool) -> None:
        of_part = part_totals.undo(self._connection, undo, is_refund=is_refund)
        self._count(terminal, undo_sums(undo, is_refund=is_refund) if of_part is None else of_part)

    def _intent(self, entry: RecordedEntry, terminal: str) -> None:
        body = body_of(entry, entries.IntentEntry)
        if body.operation.kind in (OperationKind.FORWARD, OperationKind.WITHDRAW):
            self._connection.execute(
                "UPDATE till_accepted SET asked_by = ? WHERE payment = ? AND reference = ?",
                (body.operation.id, body.payment, body.operation.target),
            )
        if body.sale is None:
            sums = self._agreed(body)
        else:
            sums = encode_sums(self._begun(entry, terminal, body.payment, body.sale))
        self._connection.execute(
            "INSERT INTO till_open VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                body.operation.id,
                body.payment,
                body.operation.kind,
                body.operation.amount,
                terminal,
                entry.time_ms,
                entry.seq,
                sums,
            ),
        )

    def _agreed(self, body: entries.IntentEntry) -> bytes | None:
        """What the offer sold whose money is taken now; its confirmation stands before this in the same commit."""
        if body.operation.kind != OperationKind.AUTHORISE:
            return None
        (sums,) = self._connection.execute("SELECT sums FROM till_held WHERE payment = ?", (body.payment,)).fetchone()
        self._connection.execute("DELETE FROM till_held WHERE payment = ?", (body.payment,))
        return bytes(sums)

    def _outcome(self, entry: RecordedEntry, terminal: str) -> None:
        body = body_of(entry, entries.OutcomeEntry)
        if body.state == OperationState.UNKNOWN:
            return  # it is being checked still
        intent, amount, sums = self._connection.execute(
            "SELECT intent, amount, sums FROM till_open WHERE operation = ?", (body.operation,)
        ).fetchone()
        self._connection.execute("DELETE FROM till_open WHERE operation = ?", (body.operation,))
        kind, state = OperationKind(body.kind), OperationState(body.state)
        if state is OperationState.CONFIRMED:
            self._confirmed(terminal, body, amount, sums)
        elif state is OperationState.ACCEPTED:
            self._count(terminal, decode_sums(sums))
            self._count(terminal, part_totals.stand(self._connection, body.payment, None))
            self._connection.execute(
                "INSERT INTO till_accepted VALUES (?, ?, ?, NULL)", (body.payment, body.reference, intent)
            )
        offline = offline_sums(kind, state, amount)
        if offline:
            self._count(terminal, offline)
        if kind in (OperationKind.FORWARD, OperationKind.WITHDRAW) and offline:
            self._known(entry, terminal, body, amount)
        if kind is OperationKind.FORWARD:
            return  # of earlier days as a rule: an agreement is a sum, a loss is listed by itself
        day = self._day_of(intent)
        if day is not None:
            self._connection.execute(
                "INSERT INTO till_late (outcome, day, payment, kind, state, amount, terminal, intent)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (entry.seq, day, body.payment, body.kind, body.state, amount, terminal, intent),
            )

    def _day_of(self, intent: int) -> str | None:
        """An intent that lies before the close of a day belongs to the first day that was closed after it."""
        row = self._connection.execute(
            "SELECT day FROM till_days WHERE seq > ? ORDER BY seq LIMIT 1", (intent,)
        ).fetchone()
        return None if row is None else str(row[0])

    def _known(self, entry: RecordedEntry, terminal: str, body: entries.OutcomeEntry, amount: int) -> None:
        """What was accepted offline has its end; a loss falls into the day that learns of it, and names its sale."""
        where = (body.payment, body.operation)
        intent, reference = self._connection.execute(
            "SELECT intent, reference FROM till_accepted WHERE payment = ? AND asked_by = ?", where
        ).fetchone()
        self._connection.execute("DELETE FROM till_accepted WHERE payment = ? AND asked_by = ?", where)
        if body.state == OperationState.REJECTED:
            self._count(terminal, part_totals.lose(self._connection, body.payment, amount))
            self._connection.execute(
                "INSERT INTO till_lost VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (entry.seq, self._day_of(intent), body.payment, amount, terminal, intent, reference, body.code),
            )

    def _confirmed(self, terminal: str, body: entries.OutcomeEntry, amount: int, sums: bytes | None) -> None:
        match OperationKind(body.kind):
            case OperationKind.AUTHORISE if sums is not None:
                taken = decode_sums(sums)
                self._count(terminal, taken if body.amount is None else less_taken(taken, amount, body.amount))
                self._count(terminal, part_totals.stand(self._connection, body.payment, body.amount))
            case OperationKind.RESERVE | OperationKind.OFFER:
                self._connection.execute("INSERT INTO till_held VALUES (?, ?, ?)", (body.payment, amount, sums))
            case OperationKind.CAPTURE | OperationKind.CANCEL as kind:
                held, what = self._connection.execute(
                    "SELECT amount, sums FROM till_held WHERE payment = ?", (body.payment,)
                ).fetchone()
                self._connection.execute("DELETE FROM till_held WHERE payment = ?", (body.payment,))
                if kind is OperationKind.CAPTURE:
                    self._count(terminal, captured_sums(decode_sums(what), amount - held))
            case _:
                return

    def _act(self, entry: RecordedEntry, terminal: str) -> None:
        body = body_of(entry, till_entries.DrawerEntry)
        if body.drawer != self._drawer(terminal):
            self._connection.execute("INSERT OR REPLACE INTO till_drawers VALUES (?, ?)", (terminal, body.drawer))
            self._drawers[terminal] = body.drawer
        sums = act_sums(entry.kind, body)
        difference: int | None = None
        if entry.kind == till_entries.DRAWER_COUNT:
            self.write()
            difference = body.amount - drawer_holds(self._connection, body.drawer)
            sums = {What.DIFFERENCE: difference}
            self._connection.execute(
                "INSERT OR REPLACE INTO till_counts VALUES (?, ?, ?)", (body.drawer, body.amount, entry.seq)
            )
        self._count(terminal, sums)
        self.write()
        held = drawer_holds(self._connection, body.drawer)
        self._connection.execute("INSERT INTO till_answers VALUES (?, ?, ?)", (entry.seq, held, difference))

    def _close(self, entry: RecordedEntry) -> None:
        self.write()
        scope = _CLOSES[entry.kind]
        if scope is Scope.SHOP:
            day = body_of(entry, till_entries.DayClosedEntry)
            name = ""
            self._connection.execute("INSERT INTO till_days VALUES (?, ?)", (day.day, entry.seq))
            self._connection.execute("DELETE FROM till_late")  # they stand in this entry
            self._connection.execute("DELETE FROM till_lost")
            self._connection.execute("UPDATE till_news SET first_ms = NULL")
        else:
            closed = body_of(entry, till_entries.PeriodClosedEntry)
            name = closed.period.name
        self._connection.execute("DELETE FROM till_marks WHERE scope = ? AND name = ?", (scope, name))
        copied = "INSERT INTO till_marks SELECT ?, ?, terminal, drawer, sums FROM till_totals"
        self._connection.execute(f"{copied} WHERE {within(scope)}", (scope, name, name))
        self._connection.execute(
            "INSERT INTO till_closings VALUES (?, ?, 1, ?) ON CONFLICT (scope, name)"
            " DO UPDATE SET number = number + 1, seq = excluded.seq",
            (scope, name, entry.seq),
        )


def within(scope: Scope) -> str:
    """The condition on `till_totals` for what belongs to a scope; its one parameter is the name."""
    return f"{_COLUMN[scope]} = ?" if scope in _COLUMN else "'' = ?"


def drawer_of(connection: sqlite3.Connection, terminal: str) -> str:
    """The drawer that the terminal uses: one of its own name, until a float says otherwise."""
    row = connection.execute("SELECT drawer FROM till_drawers WHERE terminal = ?", (terminal,)).fetchone()
    return terminal if row is None else str(row[0])


def drawer_holds(connection: sqlite3.Connection, drawer: str) -> int:
    """What the drawer holds, as far as the log knows."""
    rows = connection.execute("SELECT sums FROM till_totals WHERE drawer = ?", (drawer,))
    return sum(held_minor(decode_sums(sums)) for (sums,) in rows)
