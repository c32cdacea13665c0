"""A report for people says what the entry says, in every form, and fits."""

from __future__ import annotations

import csv
import io
import re

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.model.limits import (
    AMOUNT_MINOR_MAX,
    DRAWERS_MAX,
    ENTRY_BYTES_MAX,
    LATE_LISTED_MAX,
    OPEN_LISTED_MAX,
    TAXES_LISTED_MAX,
)
from appliance.till.page import report_text
from appliance.till.sheet import sheet_of_day, sheet_of_period
from appliance.wire.till_entries import (
    CashFacts,
    DayClosedEntry,
    DrawerStand,
    LateFacts,
    OpenFacts,
    PeriodFacts,
    TaxFacts,
    TenderFacts,
    TotalsFacts,
)
from provisioning.reports.csv_file import csv_of
from provisioning.reports.pdf_file import WIDTH, pdf_of

NOBODY = "00000000-0000-0000-0000-000000000000"
CASH = CashFacts(
    opening=10_000,
    floats=5_000,
    sales=1_250,
    refunds=500,
    paid_out=250,
    expected=15_500,
    counted=15_490,
    difference=-10,
    left=15_490,
)
PERIOD = PeriodFacts(
    scope="drawer",
    name="till-1",
    number=7,
    after=40,
    until=81,
    currency="EUR",
    totals=TotalsFacts(sales=2, total=3_250, refunds=1, refunded=500, no_sales=3),
    tenders=(TenderFacts(kind="card", taken=2_000), TenderFacts(kind="cash", taken=1_250, returned=500)),
    taxes=(
        TaxFacts(tax_code="=HYPERLINK(1)\x1b[2J", gross=250),
        TaxFacts(tax_code="standard", rate_basis_points=750, gross=3_000, net=2_791, tax=209),
    ),
    cash=CASH,
)
DAY = DayClosedEntry(
    day="2026-10-25",
    zone="Europe/Berlin",
    cut_off="04:00",
    begins_ms=0,
    ends_ms=1,
    period=msgspec.structs.replace(PERIOD, scope="shop", name=""),
    drawers=(DrawerStand(drawer="till-1", cash=CASH),),
    drawer_count=1,
    open=(OpenFacts(kind="authorise", amount=999, intent=80, payment=bytes(16), terminal="till-1", prepared_ms=1),),
    open_count=3,
    late=(
        LateFacts(
            day="2026-10-24",
            kind="refund",
            state="confirmed",
            amount=123,
            intent=12,
            outcome=50,
            payment=bytes(16),
            terminal="till-2",
        ),
    ),
    late_count=1,
)


@pytest.mark.parametrize("width", [24, 32, 42, 48, 80])
def test_slip_fits_its_width_and_holds_nothing_that_steers_a_printer(width: int) -> None:
    text = report_text(sheet_of_day(DAY, seq=82), width=width, heading="Corner Shop")
    assert max(len(line) for line in text.splitlines()) <= width
    assert all(character == "\n" or character.isprintable() for character in text)


def test_slip_of_a_drawer_reads_like_a_page() -> None:
    lines = report_text(sheet_of_period(PERIOD, seq=82), width=42).splitlines()
    assert lines[0].strip() == "Z report of drawer till-1, no. 7"
    assert lines[2].strip() == "signed, as entry 82"
    cash = lines[lines.index("Cash") + 2 :]
    assert [line.split() for line in cash[:9]] == [
        ["opening", "100.00"],
        ["floats", "50.00"],
        ["cash", "sales", "12.50"],
        ["cash", "given", "back", "-5.00"],
        ["paid", "out", "-2.50"],
        ["expected", "155.00"],
        ["last", "count", "154.90"],
        ["difference", "of", "counts", "-0.10"],
        ["left", "154.90"],
    ]


def test_report_that_nobody_signed_says_so() -> None:
    assert "not recorded, not signed" in report_text(sheet_of_period(PERIOD, seq=None), width=42)


def test_days_report_names_what_is_open_and_what_came_late() -> None:
    text = " ".join(report_text(sheet_of_day(DAY, seq=82), width=48).split())
    assert f"payment of {NOBODY} at till-1, entry 80 9.99 more, not listed 2" in text
    assert f"2026-10-24 refund of {NOBODY} at till-2, entry 12: done 1.23" in text


def test_csv_has_every_row_and_no_formula() -> None:
    sheet = sheet_of_day(DAY, seq=82)
    rows = list(csv.reader(io.StringIO(csv_of(sheet, heading="Corner Shop").decode())))
    assert len(rows) == 2 + len(sheet.about) + len(sheet.rows) + 1
    assert ["Cash", "cash sales", "", "12.50", "EUR"] in rows
    assert ["Sales by tax", "standard 7.50 %", "", "30.00", "EUR"] in rows
    assert not [cell for row in rows for cell in row[:2] if cell.startswith(("=", "+", "-", "@"))]


def test_pdf_holds_every_line_and_is_the_same_each_time() -> None:
    text = report_text(sheet_of_day(DAY, seq=82), width=WIDTH, heading="Café (Zürich)\\") * 3
    document = pdf_of(text)
    shown = re.findall(rb"^\((.*)\) Tj$", document, re.MULTILINE)
    unescaped = [re.sub(rb"\\(.)", rb"\1", line).decode("cp1252") for line in shown]
    assert unescaped == text.splitlines()
    assert document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") + document.count(b"/Type /Page/") == 4
    assert document == pdf_of(text)


def test_the_largest_report_of_a_day_fits_into_an_entry() -> None:
    most = 90 * AMOUNT_MINOR_MAX * 10**6
    seq = 2**40
    cash = CashFacts(
        opening=most,
        floats=most,
        sales=most,
        refunds=most,
        paid_in=most,
        paid_out=most,
        expected=most,
        counted=most,
        difference=-most,
        left=most,
    )
    taxes = [
        TaxFacts(
            tax_code=f"{number:\U0001f4b6>64}",
            rate_basis_points=10_000,
            gross=most,
            returned=most,
            returned_tax=most,
            net=most,
            tax=most,
        )
        for number in range(TAXES_LISTED_MAX + 1)
    ]
    late = LateFacts(
        day="2026-10-24",
        kind="authorise",
        state="confirmed",
        amount=AMOUNT_MINOR_MAX,
        intent=seq,
        outcome=seq,
        payment=bytes(16),
        terminal="t" * 32,
    )
    being_checked = OpenFacts(
        kind="authorise",
        amount=AMOUNT_MINOR_MAX,
        intent=seq,
        payment=bytes(16),
        terminal="t" * 32,
        prepared_ms=2**42,
    )
    day = msgspec.structs.replace(
        DAY,
        zone="America/Argentina/ComodRivadavia",
        period=msgspec.structs.replace(
            PERIOD, until=seq, after=seq, number=seq, name="", cash=cash, taxes=tuple(taxes)
        ),
        drawers=tuple(DrawerStand(drawer=f"{number:d>32}", cash=cash) for number in range(DRAWERS_MAX)),
        open=(being_checked,) * OPEN_LISTED_MAX,
        late=(late,) * LATE_LISTED_MAX,
    )
    assert len(cbor.encode_ordered(msgspec.to_builtins(day, builtin_types=(bytes,)))) < ENTRY_BYTES_MAX - 1_024
