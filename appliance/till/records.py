"""Reads of the till's tables: what a period came to so far, what is open, what came late."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.model.limits import LATE_LISTED_MAX, OPEN_LISTED_MAX
from appliance.model.till import Scope, Sums, added, held_minor, minus, owed_minor, waiting_minor
from appliance.till.part_totals import read_incomplete
from appliance.till.period import cash_facts, has_cash, period_facts
from appliance.till.projection import within
from appliance.till.tally import decode_sums
from appliance.wire.till_entries import DrawerStand, LateFacts, LostFacts, OpenFacts, PeriodFacts

_LAST_CHANGE: Final = "SELECT max(seq) FROM till_totals"
_TOTALS: Final = "SELECT terminal, drawer, sums FROM till_totals"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDay:
    """The shop's day that is not closed yet: the time of its first fact, and the newest entry that changed it."""

    first_ms: int | None
    last: int


def answer_of(connection: sqlite3.Connection, seq: int) -> tuple[int, int | None]:
    """What the drawer held after the act of entry `seq`, and by how much a count differed."""
    held, difference = connection.execute("SELECT held, difference FROM till_answers WHERE seq = ?", (seq,)).fetchone()
    return int(held), None if difference is None else int(difference)


def last_change(connection: sqlite3.Connection, scope: Scope, name: str) -> int:
    """The newest entry that changed a total of the scope, or closed it; -1 when nothing did."""
    if scope is Scope.SHOP:
        return open_day(connection).last
    (changed,) = connection.execute(f"{_LAST_CHANGE} WHERE {within(scope)}", (name,)).fetchone()
    _, closed = closing_of(connection, scope, name)
    return max(-1 if changed is None else int(changed), closed)


def open_day(connection: sqlite3.Connection) -> OpenDay:
    """Where the shop's open day stands."""
    row = connection.execute("SELECT first_ms, last FROM till_news").fetchone()
    return OpenDay(first_ms=None, last=-1) if row is None else OpenDay(first_ms=row[0], last=row[1])


def day_entry(connection: sqlite3.Connection, day: str) -> int | None:
    """The entry that closed the day of that date; None while it is not closed."""
    row = connection.execute("SELECT seq FROM till_days WHERE day = ?", (day,)).fetchone()
    return None if row is None else int(row[0])


def newest_day_entry(connection: sqlite3.Connection) -> int | None:
    """The entry of the last close of a day."""
    row = connection.execute("SELECT max(seq) FROM till_days").fetchone()
    return None if row[0] is None else int(row[0])


def closing_of(connection: sqlite3.Connection, scope: Scope, name: str) -> tuple[int, int]:
    """How many periods of this scope were closed, and by which entry the last one was; 0 and -1 when none was."""
    row = connection.execute(
        "SELECT number, seq FROM till_closings WHERE scope = ? AND name = ?", (scope, name)
    ).fetchone()
    return (0, -1) if row is None else (int(row[0]), int(row[1]))


def read_period(connection: sqlite3.Connection, scope: Scope, name: str, currency: str) -> PeriodFacts:
    """What the open period came to. It adds up, or `Bug`: what a report says was summed up on different ways."""
    number, after = closing_of(connection, scope, name)
    before = added(_marks(connection, scope, name).values())
    now = added(_totals(connection, scope, name).values())
    sums = minus(now, before)
    cash = None
    if scope is not Scope.TERMINAL:
        counted = _counted(connection, name, after) if scope is Scope.DRAWER else None
        cash = cash_facts(sums, held_minor(before), counted, is_counted=_is_counted(connection, scope, name, after))
    (until,) = connection.execute("SELECT max(seq) FROM entries").fetchone()
    incomplete_count, incomplete = read_incomplete(connection, scope, name)
    return period_facts(
        sums,
        cash,
        scope=scope,
        name=name,
        number=number + 1,
        after=after,
        until=int(until),
        currency=currency,
        owed=owed_minor(now) if scope is Scope.SHOP else 0,
        # A card belongs to no drawer.
        waiting=0 if scope is Scope.DRAWER else waiting_minor(now),
        incomplete=incomplete,
        incomplete_count=incomplete_count,
    )


def read_owed(connection: sqlite3.Connection) -> int:
    """What all vouchers out there are worth now."""
    return owed_minor(added(_totals(connection, Scope.SHOP, "").values()))


def read_drawers(connection: sqlite3.Connection) -> tuple[DrawerStand, ...]:
    """Each drawer's cash within the shop's open day, those without money or movement left out."""
    _, after = closing_of(connection, Scope.SHOP, "")
    now = _by_drawer(_totals(connection, Scope.SHOP, ""))
    before = _by_drawer(_marks(connection, Scope.SHOP, ""))
    stands = []
    for drawer in sorted(now):
        sums = minus(now[drawer], before.get(drawer, {}))
        opening = held_minor(before.get(drawer, {}))
        counted = _counted(connection, drawer, after)
        if opening or counted is not None or has_cash(sums):
            cash = cash_facts(sums, opening, counted, is_counted=counted is not None)
            stands.append(DrawerStand(drawer=drawer, cash=cash))
    return tuple(stands)


def read_open(connection: sqlite3.Connection) -> tuple[int, tuple[OpenFacts, ...]]:
    """How many operations are being checked, and the oldest of them."""
    (count,) = connection.execute("SELECT count(*) FROM till_open").fetchone()
    rows = connection.execute(
        "SELECT kind, amount, intent, payment, terminal, prepared_ms FROM till_open ORDER BY intent LIMIT ?",
        (OPEN_LISTED_MAX,),
    )
    names = ("kind", "amount", "intent", "payment", "terminal", "prepared_ms")
    return int(count), tuple(OpenFacts(**dict(zip(names, row, strict=True))) for row in rows)


def read_late(connection: sqlite3.Connection) -> tuple[int, tuple[LateFacts, ...]]:
    """How many outcomes of closed days came in the open one, and the first of them."""
    (count,) = connection.execute("SELECT count(*) FROM till_late").fetchone()
    rows = connection.execute(
        "SELECT day, kind, state, amount, intent, outcome, payment, terminal FROM till_late ORDER BY outcome LIMIT ?",
        (LATE_LISTED_MAX,),
    )
    names = ("day", "kind", "state", "amount", "intent", "outcome", "payment", "terminal")
    return int(count), tuple(LateFacts(**dict(zip(names, row, strict=True))) for row in rows)


def read_lost(connection: sqlite3.Connection) -> tuple[int, tuple[LostFacts, ...]]:
    """How many payments that were accepted offline were declined in the open day, and the first of them."""
    (count,) = connection.execute("SELECT count(*) FROM till_lost").fetchone()
    rows = connection.execute(
        "SELECT day, code, amount, intent, outcome, payment, terminal, reference FROM till_lost"
        " ORDER BY outcome LIMIT ?",
        (LATE_LISTED_MAX,),
    )
    names = ("day", "code", "amount", "intent", "outcome", "payment", "terminal", "reference")
    return int(count), tuple(LostFacts(**dict(zip(names, row, strict=True))) for row in rows)


def _totals(connection: sqlite3.Connection, scope: Scope, name: str) -> dict[tuple[str, str], Sums]:
    return _sums_of(connection.execute(f"{_TOTALS} WHERE {within(scope)}", (name,)))


def _marks(connection: sqlite3.Connection, scope: Scope, name: str) -> dict[tuple[str, str], Sums]:
    found = "SELECT terminal, drawer, sums FROM till_marks WHERE scope = ? AND name = ?"
    return _sums_of(connection.execute(found, (scope, name)))


def _sums_of(rows: Iterable[tuple[str, str, bytes]]) -> dict[tuple[str, str], Sums]:
    """By terminal and drawer."""
    return {(terminal, drawer): decode_sums(sums) for terminal, drawer, sums in rows}


def _by_drawer(sums: Mapping[tuple[str, str], Sums]) -> dict[str, Sums]:
    drawers = {drawer for _, drawer in sums}
    return {name: added(part for (_, drawer), part in sums.items() if drawer == name) for name in drawers}


def _counted(connection: sqlite3.Connection, drawer: str, after: int) -> int | None:
    """The last count of the drawer, if it came after the entry `after`."""
    row = connection.execute("SELECT counted FROM till_counts WHERE drawer = ? AND seq > ?", (drawer, after)).fetchone()
    return None if row is None else int(row[0])


def _is_counted(connection: sqlite3.Connection, scope: Scope, name: str, after: int) -> bool:
    if scope is Scope.DRAWER:
        return _counted(connection, name, after) is not None
    return connection.execute("SELECT 1 FROM till_counts WHERE seq > ? LIMIT 1", (after,)).fetchone() is not None
