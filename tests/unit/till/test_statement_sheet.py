"""The day beside the provider's statement, for people: it adds up row by row, and says what to do about each break."""

from __future__ import annotations

import msgspec
import pytest

from appliance.model.reconciling import BreakType, Owner
from appliance.ports.statement import LineKind
from appliance.till.page import report_text
from appliance.till.sheet import Row
from appliance.till.statement_sheet import advice, break_words, sheet_of_statement, statement_rows
from appliance.wire.answers import ReconcileAnswer
from appliance.wire.reconcile_entries import (
    BreakFacts,
    ClosedFacts,
    DifferenceFacts,
    HereFacts,
    LineFacts,
    ReconciledEntry,
    ThereFacts,
)

LINE = LineFacts(
    id="txn_1",
    day="2026-10-25",
    fee=1_500,
    net=-2_490,
    kind="dispute",
    gross=-990,
    currency="EUR",
    created_ms=1,
    available_ms=2,
)
DISPUTE = BreakFacts(type="missing_here", owner="shop", since="2026-10-23", subject="txn_1", line=LINE)
DAY = ReconciledEntry(
    day="2026-10-25",
    here=HereFacts(charged=5_000, charges=4, refunds=1, refunded=200),
    last=90,
    there=ThereFacts(
        charged=6_000,
        charges=5,
        refunds=1,
        refunded=200,
        disputes=1,
        disputed=990,
        gross=4_810,
        fee=1_700,
        net=3_110,
        others=1,
        payout=-7_000,
    ),
    closed=(ClosedFacts(type="late", entry=44, since="2026-10-24", subject="op/0"),),
    digest=bytes(32),
    number=1,
    opened=(DISPUTE,),
    ends_ms=1,
    currency="EUR",
    provider="stripe",
    begins_ms=0,
    open_count=3,
    differences=(
        DifferenceFacts(why="missing_here", count=1, amount=-990),
        DifferenceFacts(why="other_day", count=1, amount=1_000),
    ),
)
ANSWER = ReconcileAnswer(day=DAY, seq=91, breaks=(DISPUTE,), open_count=3)


def amounts(rows: tuple[Row, ...], section: str) -> dict[str, int]:
    return {row.label: row.amount_minor for row in rows if row.section == section and row.amount_minor is not None}


def test_each_section_adds_up_to_the_next() -> None:
    rows = tuple(statement_rows(DAY))
    log, differs = amounts(rows, "Money at stripe by the log"), amounts(rows, "What differs at stripe")
    listed = amounts(rows, "By stripe's statement")
    assert log["charged"] + log["given back"] == log["expected"]
    assert log["expected"] + sum(differs.values()) == listed["gross"]
    assert listed["charged"] + listed["given back"] + listed["disputes and failed refunds"] == listed["gross"]
    assert listed["gross"] + listed["fees"] == listed["net"]
    assert listed["payouts and the provider's own bookings"] == -7_000


def test_the_page_names_open_and_closed_breaks_with_age_and_owner() -> None:
    text = " ".join(report_text(sheet_of_statement(ANSWER), width=64).split())
    assert "signed, as entry 91" in text
    assert "missing_here dispute txn_1, for 2 days, to be solved by the shop -9.90" in text
    assert "more, not listed 2" in text
    assert "late of 2026-10-24, opened by entry 44: op/0" in text
    assert break_words(DISPUTE, "2026-10-23").endswith("since this day, to be solved by the shop")


@pytest.mark.parametrize("kind", list(BreakType))
def test_every_type_has_its_advice(kind: BreakType) -> None:
    facts = BreakFacts(type=kind, owner=Owner.SHOP, since="2026-10-25", subject="op/0", line=LINE)
    assert advice(facts)


def test_a_line_that_nobody_knows_of_has_advice_by_what_it_is_and_the_vendors_comes_first() -> None:
    advices = {advice(_of(kind)) for kind in (LineKind.CHARGE, LineKind.REFUND, LineKind.DISPUTE)}
    assert len(advices) == 3
    vendors = BreakFacts(type="missing_here", owner="vendor", since="2026-10-25", subject="txn_1", line=LINE)
    assert "call whoever makes it" in advice(vendors)


def _of(kind: LineKind) -> BreakFacts:
    return msgspec.structs.replace(DISPUTE, line=msgspec.structs.replace(LINE, kind=kind))
