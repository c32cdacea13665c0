"""What must hold of drawers, X, Z and the shop's days of a world at rest.

Owns that part of the verdict, which follows the log from its first entry to its last and counts anew; nothing here
asks the till's own tables but for the periods that are open.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any, Final

import msgspec

from appliance.model.operation import OPEN, OperationKind, OperationState
from appliance.model.till import Scope
from appliance.till.records import read_period
from appliance.wire import entries, till_entries
from appliance.wire.till_entries import DayClosedEntry, DrawerEntry, PeriodFacts
from tests.world.books import Books
from tests.world.box import CURRENCY, WorldBox
from tests.world.invariants_parts import PartSale, counted
from tests.world.ledgered import Ledgered, key_name

_SCOPES: Final = {
    till_entries.DRAWER_CLOSED: Scope.DRAWER,
    till_entries.TERMINAL_CLOSED: Scope.TERMINAL,
    till_entries.DAY_CLOSED: Scope.SHOP,
}
_TAKES: Final = (OperationState.CONFIRMED, OperationState.ACCEPTED)
_GROWS: Final = ("sales", "refunds", "reversals", "no_sales")
_MOVES: Final = ("floats", "sales", "refunds", "paid_in", "paid_out")

Periods = dict[tuple[str, str], list[tuple[int, PeriodFacts]]]
"""The periods of each drawer, terminal and of the shop in order, with their entries; the open one comes last, as -1."""


async def judge_till(
    books: Books, held: Ledgered, box: WorldBox, sales: dict[bytes, PartSale], sale_of: dict[bytes, bytes]
) -> Periods:
    """Write every violation into the books; returns all periods."""
    assert box.ledger is not None
    drawers = _follow_drawers(books, held)
    periods = _closed(held)
    names = {(Scope.SHOP.value, ""), *periods, *((Scope.DRAWER.value, drawer) for drawer in drawers)}
    names |= {(Scope.TERMINAL.value, till) for till in books.sold_at.values()}
    names |= {(read.scope, read.name) for read in books.cash.read}
    names |= {
        (Scope.TERMINAL.value, entries.terminal_of(entry.actor))
        for entry, _ in held.log
        if entry.actor.startswith(entries.TERMINAL_ACTOR)
    }
    opened = await box.ledger.read(lambda connection: _open(connection, sorted(names)))
    for place, period in opened.items():
        periods.setdefault(place, []).append((-1, period))
    _check_chains(books, periods)
    _check_cash(books, periods, drawers)
    in_parts = counted(sales)
    _check_sums(books, held, periods, in_parts, {key_name(part) for part in sale_of})
    _check_parts(books, periods, sales)
    _check_told(books, held, periods)
    _check_days(books, held)
    return periods


def _follow_drawers(books: Books, held: Ledgered) -> dict[str, int]:
    """What each drawer holds by the log alone; acts stand as they were asked for, and nothing is paid out twice."""
    drawer_of: dict[str, str] = {}
    holds: Counter[str] = Counter()
    sold: dict[bytes, int] = {}
    for entry, body in held.log:
        terminal = entries.terminal_of(entry.actor)
        drawer = drawer_of.get(terminal, terminal)
        match entry.kind:
            case entries.SALE:
                holds[drawer] += _cash(body["sale"])
            case entries.INTENT if body.get("sale"):
                sold[body["payment"]] = _cash(body["sale"])
            case entries.OUTCOME if body["kind"] == OperationKind.AUTHORISE and body["state"] in _TAKES:
                holds[drawer] += sold[body["payment"]]
            case entries.REFUND | entries.REVERSAL:
                holds[drawer] -= body.get("cash", 0)
            case kind if kind in till_entries.ACTS:
                act = msgspec.convert(body, DrawerEntry)
                key = key_name(act.asked.key)
                _check_act(books, key, kind, act, drawer)
                drawer_of[terminal] = act.drawer
                if kind == till_entries.DRAWER_PAID_OUT and act.amount > holds[act.drawer]:
                    books.violate("doubled", f"{act.amount} were paid out of {holds[act.drawer]} in {act.drawer}")
                holds[act.drawer] = _after(kind, holds[act.drawer], act.amount)
                if books.cash.done.get(key, (entry.seq, holds[act.drawer])) != (entry.seq, holds[act.drawer]):
                    books.violate("lost", f"{books.name(key)} left {holds[act.drawer]}, told {books.cash.done[key]}")
            case _:
                pass
    seen = {key_name(body["asked"]["key"]) for entry, body in held.log if entry.kind in till_entries.ACTS}
    for key in books.cash.done.keys() - seen:
        books.violate("lost", f"the drawer's act {books.name(key)} was acknowledged, and is not in the log")
    return {**dict.fromkeys(drawer_of.values(), 0), **holds}


def _check_act(books: Books, key: str, kind: str, act: DrawerEntry, drawer: str) -> None:
    asked = books.cash.acts.get(key)
    if asked is None or (kind, act.amount) != (f"drawer_{asked.act}", asked.amount_minor):
        books.violate("lost", f"{books.name(key)} was {asked}, and is {kind} of {act.amount}")
    elif act.drawer != (asked.drawer or drawer):
        books.violate("lost", f"{books.name(key)} was done to {act.drawer}, and its till used {drawer}")


def _after(kind: str, held_minor: int, amount: int) -> int:
    match kind:
        case till_entries.DRAWER_COUNT:
            return amount
        case till_entries.DRAWER_PAID_OUT:
            return held_minor - amount
        case _:
            return held_minor + amount


def _closed(held: Ledgered) -> Periods:
    periods: Periods = {}
    for entry, body in held.log:
        if entry.kind in _SCOPES:
            period = msgspec.convert(body["period"], PeriodFacts)
            periods.setdefault((_SCOPES[entry.kind].value, period.name), []).append((entry.seq, period))
    return periods


def _open(connection: sqlite3.Connection, names: list[tuple[str, str]]) -> dict[tuple[str, str], PeriodFacts]:
    return {(scope, name): read_period(connection, Scope(scope), name, CURRENCY) for scope, name in names}


def _check_chains(books: Books, periods: Periods) -> None:
    """Periods follow each other without a gap: each begins where and with what the one before ended."""
    for (scope, name), chain in periods.items():
        after, left = -1, 0
        for number, (seq, period) in enumerate(chain, start=1):
            if (period.number, period.after) != (number, after):
                books.violate("lost", f"{scope} {name}: period {period.number} after {period.after} follows {after}")
            if period.cash is not None:
                if period.cash.opening != left:
                    books.violate("lost", f"{scope} {name}: {left} were left, and {period.cash.opening} are there")
                left = period.cash.left
            after = seq


def _check_cash(books: Books, periods: Periods, drawers: dict[str, int]) -> None:
    """What is left in each drawer, and in all, is what the log brought there."""
    for drawer, held_minor in drawers.items():
        _, newest = periods[Scope.DRAWER.value, drawer][-1]
        if newest.cash is None or newest.cash.left != held_minor:
            books.violate("lost", f"drawer {drawer} is said to hold {newest.cash}, and holds {held_minor}")
    _, shop = periods[Scope.SHOP.value, ""][-1]
    if shop.cash is None or shop.cash.left != sum(drawers.values()):
        books.violate("lost", f"all drawers are said to hold {shop.cash}, and hold {sum(drawers.values())}")
    moved = _sum_of(periods, Scope.DRAWER, _MOVES)
    if moved != _sum_of(periods, Scope.SHOP, _MOVES):
        books.violate("lost", f"drawers moved {dict(moved)} in all, the shop another sum")


def _check_sums(books: Books, held: Ledgered, periods: Periods, in_parts: Counter[str], parts: set[str]) -> None:
    """All periods together, closed and open, come to what payments came to: by shop, and by the tills that sold."""
    expected = Counter(in_parts)
    by_till: Counter[str] = Counter()
    for key, standing in held.payments.items():
        if standing.is_complete:
            if key not in parts:
                expected.update(sales=1, total=standing.total)
            expected.update(cash=standing.cash, provider=standing.card + standing.voucher)
            expected.update(returned=standing.back)
            by_till[books.sold_at.get(key, "")] += standing.taken
    for scope in (Scope.SHOP, Scope.TERMINAL):
        said: Counter[str] = Counter()
        for (each, name), chain in periods.items():
            taken = 0
            for _, period in chain if each == scope.value else ():
                cash = sum(tender.taken for tender in period.tenders if tender.kind == "cash")
                taken += sum(tender.taken for tender in period.tenders)
                said.update(sales=period.totals.sales, total=period.totals.total, cash=cash)
                said.update(provider=sum(tender.taken for tender in period.tenders) - cash)
                said.update(returned=sum(tender.returned for tender in period.tenders))
            if each == Scope.TERMINAL.value == scope.value and taken != by_till[name]:
                books.violate("lost", f"{name} took {by_till[name]}, and its periods say {taken}")
        if +said != +expected:
            books.violate("lost", f"all periods by {scope} come to {dict(said)}, the payments to {dict(expected)}")


def _check_parts(books: Books, periods: Periods, sales: dict[bytes, PartSale]) -> None:
    """What parts took became sales, went back, or is kept for sales that are not complete, which are listed."""
    kept = sum(sale.account for sale in sales.values())
    for scope in (Scope.SHOP, Scope.TERMINAL):
        left = 0
        for (each, _), chain in periods.items():
            for _, period in chain if each == scope.value else ():
                totals = period.totals
                left += totals.parts_taken - totals.parts_sold - totals.parts_returned
        if left != kept:
            books.violate("lost", f"periods by {scope} say that {left} are kept for sales in parts, and it is {kept}")
    _, shop = periods[Scope.SHOP.value, ""][-1]
    count = sum(not sale.is_counted and sale.keeps for sale in sales.values())
    if shop.incomplete_count != count:
        books.violate("lost", f"{count} sales keep money and are not complete, told are {shop.incomplete}")


def _check_told(books: Books, held: Ledgered, periods: Periods) -> None:
    """A Z and a day that were told are in the log; an X says no more than its period came to in the end."""
    closed = {seq: period for chain in periods.values() for seq, period in chain}
    for seq, period in books.cash.closed.items():
        if closed.get(seq) != period:
            books.violate("lost", f"a Z was told as entry {seq}, which is {closed.get(seq)}")
    days = {entry.seq: body for entry, body in held.log if entry.kind == till_entries.DAY_CLOSED}
    for seq, day in books.cash.days.items():
        if seq not in days or msgspec.convert(days[seq], DayClosedEntry) != day:
            books.violate("lost", f"{day.day} was told closed as entry {seq}, and is not")
    for read in books.cash.read:
        chain = periods[read.scope, read.name]
        final = chain[read.number - 1][1] if read.number <= len(chain) else None
        if final is None or any(getattr(read.totals, each) > getattr(final.totals, each) for each in _GROWS):
            books.violate("lost", f"an X told {read}, and the period came to {final}")


def _check_days(books: Books, held: Ledgered) -> None:
    """No date is closed twice; what was open at a close, and what came late, stands in the entry."""
    opened: dict[str, int] = {}
    closes: list[int] = []
    late = 0
    names: Counter[str] = Counter()
    for entry, body in held.log:
        if entry.kind == entries.INTENT:
            opened[body["operation"]["id"]] = entry.seq
        elif entry.kind == entries.OUTCOME and body["state"] not in OPEN:
            # What a bank says of a card that was accepted offline is no outcome of that day's sale.
            is_late = bool(closes) and opened[body["operation"]] < closes[-1]
            late += is_late and body["kind"] != OperationKind.FORWARD
            opened.pop(body["operation"], None)
        elif entry.kind == till_entries.DAY_CLOSED:
            day = msgspec.convert(body, DayClosedEntry)
            if (day.open_count, day.late_count) != (len(opened), late):
                books.violate("lost", f"{day.day}: {len(opened)} open and {late} late, told as {day}")
            names[day.day] += 1
            closes.append(entry.seq)
            late = 0
    for name, count in names.items():
        if count > 1:
            books.violate("doubled", f"{name} was closed {count} times")


def _sum_of(periods: Periods, scope: Scope, fields: tuple[str, ...]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for (each, _), chain in periods.items():
        for _, period in chain if each == scope.value else ():
            sums.update({name: getattr(period.cash, name) for name in fields})
    return sums


def _cash(sale: dict[str, Any]) -> int:
    """What a sale brings into a drawer."""
    tendered: int = sum(tender["amount_minor"] for tender in sale["tenders"] if tender["kind"] == "cash")
    return tendered - int(sale.get("change", 0))
