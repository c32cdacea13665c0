"""A report as rows for people: print, CSV and PDF say the same, in the same order. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.model.money import Money
from appliance.slip.paper_text import clean
from appliance.wire.till_entries import (
    CashFacts,
    DayClosedEntry,
    IncompleteFacts,
    LateFacts,
    OpenFacts,
    PeriodFacts,
    TaxFacts,
    TotalsFacts,
)

_STATES = {
    "confirmed": "done",
    "rejected": "refused",
    "absent": "never happened",
    "accepted_offline": "accepted offline",
}
_TENDERS = {"card_stated": "card, stated by cashier,", "pin_pad": "card at the PIN pad"}
_KINDS = {"authorise": "payment", "refund": "refund", "reverse": "reversal", "withdraw": "reversal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: a label with a count, an amount, or both."""

    section: str
    label: str
    count: int | None = None
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A report to be shown: what it is, what it covers, its rows."""

    title: str
    about: tuple[str, ...]
    currency: str
    rows: tuple[Row, ...]


def sheet_of_period(period: PeriodFacts, *, seq: int | None) -> Sheet:
    """X or Z of a drawer or terminal; `seq` is the entry that closed it."""
    letter = "X" if seq is None else "Z"
    return Sheet(
        title=f"{letter} report of {period.scope} {period.name}, no. {period.number}",
        about=(_entries(period), _proof(seq)),
        currency=period.currency,
        rows=tuple(_period_rows(period)),
    )


def sheet_of_day(day: DayClosedEntry, *, seq: int | None) -> Sheet:
    """The shop's day."""
    state = "so far" if seq is None else "closed"
    return Sheet(
        title=f"Shop day {day.day}, {state}, no. {day.period.number}",
        about=(f"from {day.cut_off} to {day.cut_off}, {day.zone}", _entries(day.period), _proof(seq)),
        currency=day.period.currency,
        rows=(*_period_rows(day.period), *_drawer_rows(day), *_open_rows(day), *_late_rows(day), *_lost_rows(day)),
    )


def _entries(period: PeriodFacts) -> str:
    return f"entries {period.after + 1} to {period.until} of the log"


def _proof(seq: int | None) -> str:
    return "not recorded, not signed" if seq is None else f"signed, as entry {seq}"


def _period_rows(period: PeriodFacts) -> Iterator[Row]:
    yield from _sales_rows(period.totals)
    for tender in period.tenders:
        name = _TENDERS.get(tender.kind, tender.kind)
        yield Row(section="Tenders", label=f"{name} taken", amount_minor=tender.taken)
        if tender.returned:
            yield Row(section="Tenders", label=f"{name} given back", amount_minor=-tender.returned)
    for tax in period.taxes:
        name = _tax_name(tax)
        yield Row(section="Sales by tax", label=name, amount_minor=tax.gross)
        if tax.net or tax.tax:
            yield Row(section="Sales by tax", label=f"{name}: net", amount_minor=tax.net)
            yield Row(section="Sales by tax", label=f"{name}: tax", amount_minor=tax.tax)
    yield from _returned_rows(period)
    yield from _incomplete_rows(period)
    for label, minor in (("issued", period.totals.vouchers), ("still to be spent, in all", period.owed)):
        if minor:
            yield Row(section="Vouchers", label=label, amount_minor=minor)
    yield from _offline_rows(period)
    if period.cash is not None:
        yield from _cash_rows("Cash", period.cash)


def _tax_name(tax: TaxFacts) -> str:
    whole, part = divmod(tax.rate_basis_points, 100)
    rate = (f" {whole}.{part:02d} %" if part else f" {whole} %") if tax.rate_basis_points else ""
    return clean(tax.tax_code) + rate


def _returned_rows(period: PeriodFacts) -> Iterator[Row]:
    section = "Refunds by tax"
    for tax in period.taxes:
        if tax.returned:
            yield Row(section=section, label=_tax_name(tax), amount_minor=-tax.returned)
        if tax.returned_tax:
            yield Row(section=section, label=f"{_tax_name(tax)}: tax", amount_minor=-tax.returned_tax)
    # By amount, or whole; and what cash was rounded by.
    unsplit_minor = period.totals.refunded - sum(tax.returned for tax in period.taxes)
    if unsplit_minor:
        yield Row(section=section, label="not split", amount_minor=-unsplit_minor)


def _incomplete_rows(period: PeriodFacts) -> Iterator[Row]:
    section = "Paid in parts"
    totals = period.totals
    for label, minor in (
        ("taken by parts of sales", totals.parts_taken),
        ("of complete sales, counted above", -totals.parts_sold),
        ("given back of sales that are not complete", -totals.parts_returned),
    ):
        if minor:
            yield Row(section=section, label=label, amount_minor=minor)
    section = "Money taken for sales that are not complete (take the rest, or give the sale up: reverse its key)"
    for each in period.incomplete:
        yield Row(section=section, label=_incomplete(each, period.currency), amount_minor=each.paid)
    yield from _left_out(section, period.incomplete_count - len(period.incomplete))


def _incomplete(each: IncompleteFacts, currency: str) -> str:
    stands = "given up, and not given back" if each.closed else f"{Money(each.remaining, currency)} open"
    return f"{uuid.UUID(bytes=each.sale)} at {each.terminal}, entry {each.since}: {stands}"


def _sales_rows(totals: TotalsFacts) -> Iterator[Row]:
    yield Row(section="Sales", label="sales", count=totals.sales, amount_minor=totals.total)
    for label, amount in (("tips", totals.tips), ("rounding", totals.rounding)):
        if amount:
            yield Row(section="Sales", label=label, amount_minor=amount)
    yield Row(section="Sales", label="refunds", count=totals.refunds, amount_minor=-totals.refunded)
    yield Row(section="Sales", label="reversals", count=totals.reversals, amount_minor=-totals.reversed)
    net = totals.total + totals.tips + totals.rounding - totals.refunded - totals.reversed
    yield Row(section="Sales", label="kept", amount_minor=net)
    if totals.lost:
        label = "declined by their banks after the handover"
        yield Row(section="Sales", label=label, count=totals.losses, amount_minor=-totals.lost)
        yield Row(section="Sales", label="kept without them", amount_minor=net - totals.lost)
    yield Row(section="Sales", label="drawer opened without a sale", count=totals.no_sales)


def _offline_rows(period: PeriodFacts) -> Iterator[Row]:
    section, totals = "Cards accepted without their bank", period.totals
    moves = (
        ("accepted", totals.offline),
        ("confirmed by their banks", -totals.forwarded),
        ("withdrawn", -totals.withdrawn),
        ("not confirmed yet, in all", period.waiting),
    )
    for label, minor in moves:
        if minor:
            yield Row(section=section, label=label, amount_minor=minor)
    if totals.losses:
        label = "declined by their banks, lost"
        yield Row(section=section, label=label, count=totals.losses, amount_minor=-totals.lost)


def _cash_rows(section: str, cash: CashFacts) -> Iterator[Row]:
    moves = (
        ("floats", cash.floats),
        ("cash sales", cash.sales),
        ("cash given back", -cash.refunds),
        ("paid in", cash.paid_in),
        ("paid out", -cash.paid_out),
    )
    yield Row(section=section, label="opening", amount_minor=cash.opening)
    for label, amount in moves:
        if amount:
            yield Row(section=section, label=label, amount_minor=amount)
    yield Row(section=section, label="expected", amount_minor=cash.expected)
    if cash.counted is not None:
        yield Row(section=section, label="last count", amount_minor=cash.counted)
    if cash.difference is None:
        yield Row(section=section, label="not counted")
    else:
        yield Row(section=section, label="difference of counts", amount_minor=cash.difference)
    yield Row(section=section, label="left", amount_minor=cash.left)


def _drawer_rows(day: DayClosedEntry) -> Iterator[Row]:
    for stand in day.drawers:
        yield from _cash_rows(f"Drawer {stand.drawer}", stand.cash)
    yield from _left_out("Drawers", day.drawer_count - len(day.drawers))


def _open_rows(day: DayClosedEntry) -> Iterator[Row]:
    section = "Being checked (counted when it is known)"
    for each in day.open:
        yield Row(section=section, label=_about(each), amount_minor=each.amount)
    yield from _left_out(section, day.open_count - len(day.open))


def _late_rows(day: DayClosedEntry) -> Iterator[Row]:
    section = "Known now, of earlier days (counted in this one)"
    for each in day.late:
        state = _STATES.get(each.state, each.state)
        yield Row(section=section, label=f"{each.day} {_about(each)}: {state}", amount_minor=each.amount)
    yield from _left_out(section, day.late_count - len(day.late))


def _lost_rows(day: DayClosedEntry) -> Iterator[Row]:
    section = "Declined by the bank after they were accepted offline (lost)"
    for each in day.lost:
        sold = "" if each.day is None else f"{each.day} "
        reference = clean(each.reference or "no reference")
        label = f"{sold}{uuid.UUID(bytes=each.payment)} at {each.terminal}, entry {each.intent}, {reference}"
        yield Row(section=section, label=label, amount_minor=-each.amount)
    yield from _left_out(section, day.lost_count - len(day.lost))


def _about(each: OpenFacts | LateFacts) -> str:
    kind = _KINDS.get(each.kind, each.kind)
    return f"{kind} of {uuid.UUID(bytes=each.payment)} at {each.terminal}, entry {each.intent}"


def _left_out(section: str, count: int) -> Iterator[Row]:
    if count:
        yield Row(section=section, label="more, not listed", count=count)
