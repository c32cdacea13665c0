"""What each day came to, counted by the till's own rules: the same entries give the sums of `report z` and `close-day`.

An entry counts in the UTC day in which the box recorded it; a card that was checked counts with its outcome.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final, TypeAlias

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.entry import Entry
from appliance.model.sale import MOVED_BY_PROVIDERS
from appliance.model.till import Sums, What, added, labelled, minus
from appliance.till.projection import TillProjection
from appliance.till.tally import decode_sums
from provisioning.verify.wording import time_text

DayCells: TypeAlias = dict[str, str | int | None]

SOLD: Final[dict[str, What]] = {"sales": What.SALES, "total_minor": What.SALES_TOTAL}
TAKEN: Final[dict[str, frozenset[str]]] = {
    "cash_minor": frozenset({"cash"}),
    "card_minor": frozenset(kind.value for kind in MOVED_BY_PROVIDERS),
    "card_stated_minor": frozenset({"card_stated"}),
    "voucher_minor": frozenset({"voucher"}),
}
MORE: Final[dict[str, What]] = {
    "refunds": What.REFUNDS,
    "refunded_minor": What.REFUNDED,
    "reversals": What.REVERSALS,
    "reversed_minor": What.REVERSED,
    "tips_minor": What.TIPS,
    "rounding_minor": What.ROUNDING,
    "parts_taken_minor": What.PARTS_TAKEN,
    "parts_sold_minor": What.PARTS_SOLD,
    "parts_returned_minor": What.PARTS_RETURNED,
    "lost_minor": What.LOST,
}
TABLE: Final[dict[str, type]] = {"day": str, "currency": str, **dict.fromkeys((*SOLD, *TAKEN, *MORE), int)}
_DAY: Final = len("2026-11-26")


class Days:
    """Counts entries in the log's order, in bounded memory: what waits for its end lies in a file of its own.

    Attributes:
        left_out: entries that did not count, because what they end or give back is pruned or malformed.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)  # SQLite's own file, gone with the connection
        self._till = TillProjection()
        self._days: dict[tuple[str, str], Sums] = {}
        self._place: tuple[str, str] | None = None
        self._before: Sums = {}
        self.left_out = 0
        self._connection.execute("PRAGMA journal_mode = MEMORY")
        for statement in self._till.schema:
            self._connection.execute(statement)

    def close(self) -> None:
        """Throw the counting away."""
        self._connection.close()

    def add(self, entry: Entry, currency: str | None) -> None:
        """Count one entry; `currency` is that of its amounts, where it says one."""
        if entry.kind not in self._till.kinds:
            return
        known = "" if self._place is None else self._place[1]
        place = (time_text(entry.time_ms)[:_DAY], currency or known)
        if place != self._place:
            self._end()
            self._place = place
        recorded = RecordedEntry(
            seq=entry.seq, time_ms=entry.time_ms, kind=entry.kind, actor=entry.actor, body=entry.body
        )
        self._connection.execute("SAVEPOINT entry")
        try:
            self._till.apply(self._connection, [recorded])
        except (TypeError, sqlite3.IntegrityError):  # no row where its beginning should stand, or a second one
            self._connection.execute("ROLLBACK TO entry")
            self.left_out += 1
        self._connection.execute("RELEASE entry")

    def rows(self) -> Iterator[DayCells]:
        """Each day with anything in it, in order."""
        self._end()
        for (day, currency), sums in sorted(self._days.items()):
            cells: DayCells = {column: sums.get(what, 0) for column, what in {**SOLD, **MORE}.items()}
            for column, kinds in TAKEN.items():
                cells[column] = sum(sums.get(labelled(What.TAKEN, kind), 0) for kind in kinds)
            if any(cells.values()):
                yield {"day": day, "currency": currency, **cells}

    def _end(self) -> None:
        """The day so far into its sums; a clock that was set back returns to an earlier one."""
        if self._place is None:
            return
        with closing(self._connection.execute("SELECT sums FROM till_totals")) as found:
            now = added(decode_sums(sums) for (sums,) in found)
        self._days[self._place] = added((self._days.get(self._place, {}), minus(now, self._before)))
        self._before = now
