"""Reports of the till are sums over the log: whatever sequence of sales, refunds and drawer acts, across a change of
the clock, X equals a replay, each Z begins with what the last one left, and no amount is in two days or in none.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.crypto import cbor
from appliance.ledger.draft import RecordedEntry
from appliance.ledger.projection import create_tables, tables_digest
from appliance.model import till
from appliance.model.limits import HOUR_MS
from appliance.model.shop_day import ShopCalendar
from appliance.model.till import Scope
from appliance.till.projection import TillProjection
from appliance.till.records import open_day, read_drawers, read_late, read_open, read_period
from appliance.wire import entries, till_entries
from appliance.wire.requests import LineBody, TaxBody, TenderBody, Wire
from appliance.wire.till_entries import DayClosedEntry, PeriodClosedEntry, PeriodFacts

CALENDAR = ShopCalendar(zone=ZoneInfo("Europe/Berlin"), cut_off="04:00")
BEFORE_THE_CHANGE_MS = CALENDAR.day(datetime.date(2026, 10, 24)).begins_ms
TERMINALS = ("till-1", "till-2", "till-3")
AMOUNTS = st.integers(1, 10**6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["cash", "card", "both", "lost"]), AMOUNTS),
        st.tuples(st.sampled_from(["float", "paid_in", "paid_out", "count"]), AMOUNTS),
        st.tuples(st.sampled_from(["no_sale", "refund", "found", "declined", "z", "z_terminal"]), st.just(0)),
        st.tuples(st.just("hours"), st.integers(1, 30)),
    ).flatmap(lambda step: st.tuples(st.just(step[0]), st.just(step[1]), st.sampled_from(TERMINALS))),
    max_size=40,
)


@dataclass
class Log:
    """A log with the till's tables beside it."""

    connection: sqlite3.Connection = field(default_factory=lambda: sqlite3.connect(":memory:", isolation_level=None))
    recorded: list[tuple[RecordedEntry, Wire]] = field(default_factory=list)
    now_ms: int = BEFORE_THE_CHANGE_MS
    drawers: dict[str, str] = field(default_factory=dict)
    lost: list[tuple[str, bytes]] = field(default_factory=list)
    sold: list[tuple[bytes, int, int]] = field(default_factory=list)
    days: list[tuple[int, DayClosedEntry]] = field(default_factory=list)

    def __post_init__(self) -> None:
        create_tables(self.connection, TillProjection())
        self.connection.execute("CREATE TABLE entries (seq INTEGER PRIMARY KEY)")
        self.connection.execute("INSERT INTO entries VALUES (0)")  # the genesis

    def __del__(self) -> None:
        self.connection.close()  # one log for each example; Python 3.13 minds a connection that is only dropped

    def add(self, kind: str, body: Wire, terminal: str) -> None:
        encoded = cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=(bytes,)))
        seq = len(self.recorded) + 1
        entry = RecordedEntry(seq=seq, time_ms=self.now_ms, kind=kind, actor=f"terminal:{terminal}", body=encoded)
        self.recorded.append((entry, body))
        self.connection.execute("INSERT INTO entries VALUES (?)", (seq,))
        TillProjection().apply(self.connection, [entry])

    def asked(self) -> entries.Asked:
        return entries.Asked(key=len(self.recorded).to_bytes(16, "big"), commitments={entries.PAYLOAD: bytes(32)})

    def close_day_if_due(self) -> None:
        """What the service does at the cut-off."""
        first_ms = open_day(self.connection).first_ms
        if first_ms is None or CALENDAR.day_of(first_ms) == CALENDAR.day_of(self.now_ms):
            return
        day = CALENDAR.day_of(first_ms)
        open_count, being_checked = read_open(self.connection)
        late_count, late = read_late(self.connection)
        body = DayClosedEntry(
            day=str(day),
            zone="Europe/Berlin",
            cut_off="04:00",
            begins_ms=day.begins_ms,
            ends_ms=day.ends_ms,
            period=read_period(self.connection, Scope.SHOP, "", "EUR"),
            drawers=read_drawers(self.connection),
            open=being_checked,
            open_count=open_count,
            late=late,
            late_count=late_count,
        )
        self.days.append((len(self.recorded) + 1, body))
        self.add(till_entries.DAY_CLOSED, body, "box")

    def play(self, step: str, amount: int, terminal: str) -> None:
        self.now_ms += 1_000
        self.close_day_if_due()
        if step == "hours":
            self.now_ms += amount * HOUR_MS
        elif step in ("cash", "card", "both", "lost"):
            self.sell(step, amount, terminal)
        elif step == "refund" and self.sold:
            payment, cash, card = self.sold.pop()
            undo = entries.UndoEntry(asked=None, payment=payment, currency="EUR", cash=cash, card=card)
            self.add(entries.REFUND, undo, terminal)
        elif step in ("found", "declined") and self.lost:
            operation, payment = self.lost.pop(0)
            self.settle(operation, payment, "confirmed" if step == "found" else "rejected")
        elif step in ("z", "z_terminal"):
            self.close_period(step, terminal)
        elif step in ("float", "paid_in", "paid_out", "no_sale", "count"):
            if step == "float":
                self.drawers[terminal] = "shared" if amount % 3 == 0 else terminal
            drawer = self.drawers.get(terminal, terminal)
            body = till_entries.DrawerEntry(asked=self.asked(), amount=amount, drawer=drawer, currency="EUR")
            self.add(f"drawer_{step}", body, terminal)

    def sell(self, step: str, amount: int, terminal: str) -> None:
        asked = self.asked()
        cash = {"cash": amount, "both": amount // 2}.get(step, 0)
        card = amount - cash
        tenders = [TenderBody(kind="cash", amount_minor=cash + 50)] if cash else []
        tenders += [TenderBody(kind="card", amount_minor=card)] if card else []
        is_stated = amount % 2 == 0
        tax = amount * 19 // 119
        rate = amount % 3  # more rates than the tests below let have a total of their own
        line = LineBody(sku="A", unit_price_minor=amount)
        if is_stated:
            line = LineBody(sku="A", unit_price_minor=amount, tax_code="standard", tax_rate_basis_points=rate)
        sale = entries.SaleFacts(
            currency="EUR",
            total=amount,
            tenders=tuple(tenders),
            change=50 if cash else 0,
            lines=(line,),
            taxes=(TaxBody(tax_code="standard", rate_basis_points=rate, net_minor=amount - tax, tax_minor=tax),)
            if is_stated
            else (),
            sold_at_ms=self.now_ms,
        )
        if not card:
            self.add(entries.SALE, entries.SaleEntry(asked=asked, sale=sale), terminal)
            self.sold.append((asked.key, cash, 0))
            return
        operation = entries.OperationFacts(
            id=asked.key.hex(), kind="authorise", provider_key="", amount=card, currency="EUR"
        )
        intent = entries.IntentEntry(operation=operation, payment=asked.key, asked=asked, sale=sale)
        self.add(entries.INTENT, intent, terminal)
        if step == "lost":
            self.settle(operation.id, asked.key, "unknown")
            self.lost.append((operation.id, asked.key))
        else:
            self.settle(operation.id, asked.key, "confirmed")
            self.sold.append((asked.key, cash, card))

    def settle(self, operation: str, payment: bytes, state: str) -> None:
        (terminal,) = self.connection.execute(
            "SELECT terminal FROM till_open WHERE operation = ?", (operation,)
        ).fetchone()
        outcome = entries.OutcomeEntry(
            operation=operation, kind="authorise", payment=payment, state=state, intent=bytes(32)
        )
        self.add(entries.OUTCOME, outcome, terminal)

    def close_period(self, step: str, terminal: str) -> None:
        scope = Scope.DRAWER if step == "z" else Scope.TERMINAL
        name = self.drawers.get(terminal, terminal) if scope is Scope.DRAWER else terminal
        body = PeriodClosedEntry(asked=self.asked(), period=read_period(self.connection, scope, name, "EUR"))
        kind = till_entries.DRAWER_CLOSED if scope is Scope.DRAWER else till_entries.TERMINAL_CLOSED
        self.add(kind, body, terminal)


@dataclass
class Replay:
    """The same again from entries alone, fact by fact: (seq, terminal, drawer, name of the amount, amount)."""

    facts: list[tuple[int, str, str, str, int]] = field(default_factory=list)

    @classmethod
    def of(cls, log: Log) -> Replay:
        replay = cls()
        drawers: dict[str, str] = {}
        held: dict[str, int] = {}
        sales: dict[bytes, entries.SaleFacts] = {}
        for entry, body in log.recorded:
            terminal = entry.actor.removeprefix("terminal:")
            match body:
                case till_entries.DrawerEntry():
                    drawers[terminal] = body.drawer
                    amount, name = body.amount, entry.kind.removeprefix("drawer_")
                    if name == "count":
                        amount -= held.get(body.drawer, 0)
                    moved = [(name, amount)]
                case entries.SaleEntry():
                    moved = sold(body.sale)
                case entries.IntentEntry(sale=entries.SaleFacts() as sale):
                    sales[body.payment] = sale
                    moved = []
                case entries.OutcomeEntry(state="confirmed"):
                    moved = sold(sales[body.payment])
                case entries.UndoEntry():
                    moved = [("refunds", 1), ("cash_back", body.cash), ("card_back", body.card)]
                case _:
                    moved = []
            drawer = drawers.get(terminal, terminal)
            signs = {"float": 1, "cash": 1, "paid_in": 1, "count": 1, "paid_out": -1, "cash_back": -1}
            for name, amount in moved:
                held[drawer] = held.get(drawer, 0) + signs.get(name, 0) * amount
                replay.facts.append((entry.seq, terminal, drawer, name, amount))
        return replay

    def of_period(self, period: PeriodFacts) -> dict[str, int]:
        sums: dict[str, int] = {}
        for seq, terminal, drawer, name, amount in self.facts:
            owner = {"drawer": drawer, "terminal": terminal, "shop": ""}[period.scope]
            if owner == period.name and period.after < seq <= period.until:
                sums[name] = sums.get(name, 0) + amount
        return {name: amount for name, amount in sums.items() if amount}


def sold(sale: entries.SaleFacts) -> list[tuple[str, int]]:
    cash, card = (sum(each.amount_minor for each in sale.tenders if each.kind == kind) for kind in ("cash", "card"))
    tax = sum(each.tax_minor for each in sale.taxes)
    return [("sales", 1), ("total", sale.total), ("cash", cash - sale.change), ("card", card), ("tax", tax)]


def told(period: PeriodFacts) -> dict[str, int]:
    """The period in the words of the replay."""
    totals, cash = period.totals, period.cash
    tenders = {tender.kind: tender for tender in period.tenders}
    found: dict[str, Any] = {"sales": totals.sales, "total": totals.total, "refunds": totals.refunds}
    found["tax"] = sum(tax.tax for tax in period.taxes)
    for kind, tender in tenders.items():
        found |= {kind: tender.taken, f"{kind}_back": tender.returned}
    if cash is not None:
        found |= {"float": cash.floats, "paid_in": cash.paid_in, "paid_out": cash.paid_out}
        found["count"] = cash.difference or 0
    return {name: amount for name, amount in found.items() if amount}


def replayed(replay: Replay, period: PeriodFacts) -> dict[str, int]:
    sums = replay.of_period(period)
    if period.cash is None:
        sums = {name: amount for name, amount in sums.items() if name not in ("float", "paid_in", "paid_out", "count")}
    return sums


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_reports_equal_a_replay_of_the_log_and_chain_from_close_to_close(
    steps: list[tuple[str, int, str]],
) -> None:
    log = Log()
    for step in steps:
        log.play(*step)
    log.now_ms += 60 * HOUR_MS
    log.close_day_if_due()
    replay = Replay.of(log)
    closed = [body.period for _, body in log.recorded if isinstance(body, PeriodClosedEntry | DayClosedEntry)]
    names = {(scope, name) for scope in ("drawer", "terminal") for name in (*TERMINALS, "shared")} | {("shop", "")}
    for scope, name in sorted(names):
        chain = [period for period in closed if (period.scope, period.name) == (scope, name)]
        chain.append(read_period(log.connection, Scope(scope), name, "EUR"))
        left = 0
        for number, period in enumerate(chain, start=1):
            assert told(period) == replayed(replay, period)
            assert period.number == number
            if period.cash is not None:
                assert period.cash.opening == left
                left = period.cash.left
        afters, untils = [period.after for period in chain[1:]], [period.until for period in chain[:-1]]
        assert afters == [until + 1 for until in untils], "the close itself lies between two periods, and nothing else"


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_no_amount_is_in_two_days_or_in_none_and_what_is_late_is_named(steps: list[tuple[str, int, str]]) -> None:
    log = Log()
    for step in steps:
        log.play(*step)
    for operation, payment in log.lost:
        log.settle(operation, payment, "confirmed")
    log.now_ms += 60 * HOUR_MS
    log.close_day_if_due()
    totals = sum(day.period.totals.total for _, day in log.days)
    assert totals == sum(amount for *_, name, amount in Replay.of(log).facts if name == "total")
    dates = [day.day for _, day in log.days]
    assert dates == sorted(set(dates))
    closed_at = {day.day: seq for seq, day in log.days}
    for seq, day in log.days:
        opening = sum(stand.cash.opening for stand in day.drawers)
        assert day.period.cash is not None
        assert (opening, sum(stand.cash.left for stand in day.drawers)) == (
            day.period.cash.opening,
            day.period.cash.left,
        )
        for late in day.late:
            assert late.intent < closed_at[late.day] < late.outcome < seq
            assert late.intent in {each.intent for each in dict(log.days)[closed_at[late.day]].open}


@pytest.fixture(autouse=True, scope="module")
def few_rates() -> Iterator[None]:
    """Two rates a terminal and drawer: the rest is folded in every longer example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(till, "TAX_RATES_MAX", 2)
        yield


@given(STEPS)
@settings(max_examples=50, deadline=None)
def test_tables_do_not_depend_on_how_entries_were_grouped(steps: list[tuple[str, int, str]]) -> None:
    log = Log()
    for step in steps:
        log.play(*step)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as at_once:
        create_tables(at_once, TillProjection())
        if log.recorded:
            TillProjection().apply(at_once, [entry for entry, _ in log.recorded])
        assert tables_digest(at_once, [TillProjection()]) == tables_digest(log.connection, [TillProjection()])
