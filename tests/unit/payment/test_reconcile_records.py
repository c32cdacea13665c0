"""Whose a provider's line is: among attempts that share one name there, the one that moved the money."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from appliance.ledger.projection import create_tables
from appliance.model.ids import OperationId, ProviderReference
from appliance.payment.matching import Standing
from appliance.payment.projection import PaymentProjection
from appliance.payment.reconcile_projection import ReconcileProjection
from appliance.payment.reconcile_records import Scope, resolve
from appliance.ports.statement import Line, LineId, LineKind
from tests.unit.payment.shop import CALENDAR

SCOPE = Scope(provider="stripe", log_origin="here", day=CALENDAR.day(datetime.date(2026, 10, 24)), last=100)
LINE = Line(
    line_id=LineId("txn_1"),
    kind=LineKind.CHARGE,
    reference=ProviderReference("pi_1"),
    log_origin="here",
    operation_id=OperationId("a/0"),
    gross_minor=990,
    fee_minor=0,
    net_minor=990,
    currency="EUR",
    created_ms=1,
    available_ms=2,
)


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        create_tables(connection, PaymentProjection())
        create_tables(connection, ReconcileProjection())
        yield connection


def attempt(connection: sqlite3.Connection, name: str, kind: str, state: str) -> None:
    row: dict[str, object] = {"id": name, "payment": bytes(16), "kind": kind, "state": state, "reference": "pi_1"}
    row |= {
        "provider_key": name,
        "amount": 990,
        "currency": "EUR",
        "terminal": "till-1",
        "prepared_ms": 1,
        "intent": 1,
        "held": 0,
        "provider": "stripe",
    }
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO operations ({names}) VALUES ({marks})", tuple(row.values()))


@pytest.mark.parametrize("states", [("absent", "confirmed"), ("confirmed", "absent")])
def test_the_confirmed_one_of_several_attempts_moved_the_money(
    tables: sqlite3.Connection, states: tuple[str, str]
) -> None:
    attempt(tables, "a/0", "reserve", "confirmed")
    for number, state in enumerate(states, 1):
        attempt(tables, f"a/{number}", "capture", state)
    moved = OperationId(f"a/{states.index('confirmed') + 1}")
    assert resolve(tables, SCOPE, [LINE]) == [(moved, Standing.CONFIRMED)]


def test_a_capture_that_has_no_end_yet_is_being_checked(tables: sqlite3.Connection) -> None:
    attempt(tables, "a/1", "capture", "unknown")
    assert resolve(tables, SCOPE, [LINE]) == [(OperationId("a/1"), Standing.CHECKED)]
