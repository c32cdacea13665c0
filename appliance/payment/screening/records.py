"""What the ledger keeps of screening: verdicts that are no mere pass, as a table; changed thresholds, as another.

The verdict itself stands in the payment's own entry, whatever it was; these rows are for looking through.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.rebuild import recorded_entry
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.screening import Judgement
from appliance.payment.entry_body import body_of
from appliance.wire import entries

SCREENED_MAX: Final = 100
KINDS_COUNTED: Final = frozenset({entries.SALE, entries.INTENT, entries.REFUND})


class ScreeningProjection:
    """Watched and refused requests, and thresholds."""

    name: Final = "screening"
    tables: Final = ("screenings", "screening_thresholds")
    schema: Final = (
        # key: of the request. rules: those that spoke, with commas between.
        "CREATE TABLE screenings (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, at_ms INTEGER NOT NULL,"
        " terminal TEXT NOT NULL, verb TEXT NOT NULL, verdict TEXT NOT NULL, rules TEXT NOT NULL, score INTEGER)",
        "CREATE INDEX screenings_by_key ON screenings (key)",
        "CREATE TABLE screening_thresholds (name TEXT PRIMARY KEY, value BLOB NOT NULL, seq INTEGER NOT NULL)"
        " WITHOUT ROWID",
    )
    kinds: Final = frozenset({*KINDS_COUNTED, entries.SCREENING_REFUSED, entries.SCREENING_CHANGED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """One row for each verdict that is more than a pass."""
        rows = []
        for entry in recorded:
            if entry.kind == entries.SCREENING_CHANGED:
                body = body_of(entry, entries.ScreeningChangedEntry)
                connection.executemany(
                    "INSERT INTO screening_thresholds VALUES (?, ?, ?)"
                    " ON CONFLICT (name) DO UPDATE SET value = excluded.value, seq = excluded.seq",
                    [(name, value, entry.seq) for name, value in body.changed.items()],
                )
                continue
            key, verb, screen = _screened(entry)
            if screen is not None and key is not None and screen.verdict != Judgement.PASSED:
                terminal = entries.terminal_of(entry.actor)
                rules = ",".join(reason.rule for reason in screen.reasons)
                rows.append((entry.seq, key, entry.time_ms, terminal, verb, screen.verdict, rules, screen.score))
        if rows:
            connection.executemany("INSERT INTO screenings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def find_changes(connection: sqlite3.Connection) -> dict[str, int | str]:
    """What the owner set, by name."""
    return dict(connection.execute("SELECT name, value FROM screening_thresholds").fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """One verdict as the log has it."""

    seq: int
    verb: str
    facts: entries.ScreenFacts


def find_screened(connection: sqlite3.Connection, key: RequestKey) -> list[Screened]:
    """Every verdict on requests with `key`, oldest first: refused ones, and the one that was let through.

    Raises:
        Rejected: `payment_unknown`: no request with this key was screened.
    """
    rows = connection.execute(
        "SELECT seq FROM screenings WHERE key = ?1 UNION SELECT seq FROM requests WHERE key = ?1 ORDER BY seq LIMIT ?2",
        (key.octets, SCREENED_MAX),
    ).fetchall()
    found = []
    for (seq,) in rows:
        row = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
        if row is not None:
            _, verb, facts = _screened(recorded_entry(row[0]))
            if facts is not None:
                found.append(Screened(seq=seq, verb=verb, facts=facts))
    if not found:
        raise Rejected("payment_unknown", "no request with this key was screened, or its entry was pruned")
    return found


def counts_since(connection: sqlite3.Connection, since_ms: int) -> list[tuple[str, str, int]]:
    """Verdict, rules that spoke together, and how often, for what was watched or refused since then."""
    return connection.execute(
        "SELECT verdict, rules, count(*) FROM screenings WHERE at_ms >= ? GROUP BY verdict, rules ORDER BY 3 DESC",
        (since_ms,),
    ).fetchall()


def counted_of(entry: RecordedEntry) -> tuple[str, int, int, bool] | None:
    """Terminal, time, amount and whether it is a refund, of an entry that counts for its terminal; None for others."""
    terminal = entries.terminal_of(entry.actor)
    if entry.kind == entries.SALE:
        return terminal, entry.time_ms, body_of(entry, entries.SaleEntry).sale.total, False
    if entry.kind == entries.REFUND:
        undo = body_of(entry, entries.UndoEntry)
        # A refund with a card in it counted when its intent was written.
        return None if undo.operation is not None else (terminal, entry.time_ms, undo.cash, True)
    intent = body_of(entry, entries.IntentEntry)
    if intent.sale is not None:
        return terminal, entry.time_ms, intent.sale.total, False
    if intent.refund is not None:
        return terminal, entry.time_ms, intent.refund.cash + intent.refund.card, True
    return None


def _screened(entry: RecordedEntry) -> tuple[bytes | None, str, entries.ScreenFacts | None]:
    """The request's key, its verb and its verdict."""
    if entry.kind == entries.SCREENING_REFUSED:
        refused = body_of(entry, entries.ScreeningRefusedEntry)
        return refused.key, refused.verb, refused.screen
    if entry.kind == entries.SALE:
        sale = body_of(entry, entries.SaleEntry)
        return sale.asked.key, "payment", sale.screen
    if entry.kind == entries.REFUND:
        undo = body_of(entry, entries.UndoEntry)
        return None if undo.asked is None else undo.asked.key, "refund", undo.screen
    if entry.kind != entries.INTENT:
        return None, "", None  # the key was used for something that is not screened
    intent = body_of(entry, entries.IntentEntry)
    asked = intent.asked
    return None if asked is None else asked.key, "payment" if intent.refund is None else "refund", intent.screen
