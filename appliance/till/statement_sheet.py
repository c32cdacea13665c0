"""A day beside the provider's statement as rows for people, and what to do about each break. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from appliance.model.reconciling import BreakType, Owner
from appliance.payment.matching import CONVERTED, ELSEWHERE, OTHER_DAY, age_days
from appliance.ports.statement import LineKind
from appliance.slip.paper_text import clean
from appliance.till.sheet import Row, Sheet
from appliance.wire.answers import DayAnswer, ReconcileAnswer
from appliance.wire.reconcile_entries import BreakFacts, ReconciledEntry

_WHY: Final = {
    OTHER_DAY: "recorded and listed on different days",
    CONVERTED: "converted into the account's currency",
    ELSEWHERE: "of another box on the same account",
    BreakType.MISSING_HERE: "listed, not recorded",
    BreakType.MISSING_THERE: "recorded, never listed",
    BreakType.AMOUNT: "another amount",
    BreakType.CURRENCY: "another currency",
    BreakType.FEE: "fee",
    BreakType.LATE: "on its way",
    BreakType.DOUBLED: "moved twice",
}
_STEPS: Final = {
    BreakType.MISSING_THERE: "Ask the provider where this payment is; it confirmed it to the box.",
    BreakType.AMOUNT: "Ask the provider why the amount is another one than it confirmed.",
    BreakType.CURRENCY: "The customer was asked for another currency: ask the provider who changed it.",
    BreakType.FEE: "Compare the fee with your contract; correct the settings' [reconciliation] or ask the provider.",
    BreakType.LATE: "Wait: it is looked at again each day.",
    BreakType.DOUBLED: "Give the second charge back at the provider, then accept this break.",
}
_OF_VENDOR: Final = "The box's records are wrong: call whoever makes it, and touch nothing until then."
_OF_LINE: Final = {
    LineKind.DISPUTE: "A cardholder disputes it: answer at the provider before its deadline, then accept this break.",
    LineKind.REFUND_FAILED: "The refund came back: give the customer the money another way, then accept this break.",
    LineKind.REFUND: "Somebody gave money back outside of the tills: find out who, then accept this break.",
    LineKind.CHARGE: "Somebody charged outside of this box: find out who, then accept this break or give it back.",
}
_ABOUT: Final = {
    LineKind.CHARGE: "charge",
    LineKind.REFUND: "refund",
    LineKind.REFUND_FAILED: "failed refund",
    LineKind.DISPUTE: "dispute",
}


def sheet_of_statement(answer: ReconcileAnswer) -> Sheet:
    """The whole report of a day."""
    day = answer.day
    state = "looked at, not recorded" if answer.seq is None else f"signed, as entry {answer.seq}"
    return Sheet(
        title=f"{_money(day.provider)} of shop day {day.day} beside {clean(day.provider)}'s statement",
        about=(state,),
        currency=day.currency,
        rows=(*statement_rows(day), *_break_rows(answer), *_closed_rows(day)),
    )


def with_statement(sheet: Sheet, answer: DayAnswer) -> Sheet:
    """A day's report with the money of that day, or of the last one that was compared with a statement."""
    rows: list[Row] = []
    for each in answer.reconciled:
        rows += statement_rows(each, of_day=f", day {each.day}")
        section = f"{_money(each.provider)}: breaks"
        rows.append(Row(section=section, label=f"open after day {each.day}", count=each.open_count))
    return replace(sheet, rows=(*sheet.rows, *rows))


def statement_rows(day: ReconciledEntry, *, of_day: str = "") -> Iterator[Row]:
    """What the log says, what differs, what the statement says: each section adds up to the next."""
    here, there = day.here, day.there
    recorded = f"{_money(day.provider)} by the log{of_day}"
    what = f"What differs at {clean(day.provider)}{of_day}"
    listed = f"By {clean(day.provider)}'s statement{of_day}"
    yield Row(section=recorded, label="charged", count=here.charges, amount_minor=here.charged)
    yield Row(section=recorded, label="given back", count=here.refunds, amount_minor=-here.refunded)
    yield Row(section=recorded, label="expected", amount_minor=here.charged - here.refunded)
    for each in day.differences:
        yield Row(section=what, label=_WHY.get(each.why, each.why), count=each.count, amount_minor=each.amount)
    yield Row(section=listed, label="charged", count=there.charges, amount_minor=there.charged)
    yield Row(section=listed, label="given back", count=there.refunds, amount_minor=-there.refunded)
    if there.disputes:
        label = "disputes and failed refunds"
        yield Row(section=listed, label=label, count=there.disputes, amount_minor=-there.disputed)
    yield Row(section=listed, label="gross", amount_minor=there.gross)
    yield Row(section=listed, label="fees", amount_minor=-there.fee)
    unexplained = there.net - (there.gross - there.fee)
    if unexplained:
        yield Row(section=listed, label="not explained by gross and fees", amount_minor=unexplained)
    yield Row(section=listed, label="net", amount_minor=there.net)
    if there.others:
        label = "payouts and the provider's own bookings"
        yield Row(section=listed, label=label, count=there.others, amount_minor=there.payout + there.other)
    if there.foreign:
        yield Row(section=listed, label="in another currency, not counted", count=there.foreign)


def converted_words(day: ReconciledEntry) -> str | None:
    """What cannot be summed up, where the provider settles the account in another currency; None where it does not."""
    count = sum(each.count for each in day.differences if each.why == CONVERTED)
    if not count:
        return None
    return (
        f"{count} of {clean(day.provider)}'s lines were converted into the account's own currency. What customers were"
        f" asked for fits; fees and net are not known in {day.currency}. To have them in the report, let the account be"
        " settled in the shop's currency."
    )


def _money(provider: str) -> str:
    return f"Money at {clean(provider)}"


def advice(facts: BreakFacts) -> str:
    """What whoever owns the break does about it."""
    if facts.owner == Owner.VENDOR:
        return _OF_VENDOR
    if facts.type == BreakType.MISSING_HERE and facts.line is not None:
        return _OF_LINE.get(LineKind(facts.line.kind), _OF_LINE[LineKind.CHARGE])
    return _STEPS[BreakType(facts.type)]


def break_words(facts: BreakFacts, day: str) -> str:
    """One line: type, whose it is, how old, which one."""
    days = age_days(facts.since, day)
    age = "since this day" if days == 0 else f"for {days} {'day' if days == 1 else 'days'}"
    about = "" if facts.line is None else f" {_ABOUT.get(LineKind(facts.line.kind), facts.line.kind)}"
    return f"{facts.type}{about} {clean(facts.subject)}, {age}, to be solved by the {facts.owner}"


def _break_rows(answer: ReconcileAnswer) -> Iterator[Row]:
    section = "Open breaks"
    for facts in answer.breaks:
        yield Row(section=section, label=break_words(facts, answer.day.day), amount_minor=_amount(facts, answer.day))
    left = answer.open_count - len(answer.breaks)
    if left > 0:
        yield Row(section=section, label="more, not listed", count=left)
    if not answer.open_count:
        yield Row(section=section, label="none", count=0)


def _closed_rows(day: ReconciledEntry) -> Iterator[Row]:
    for each in day.closed:
        label = f"{each.type} of {each.since}, opened by entry {each.entry}: {clean(each.subject)}"
        yield Row(section="Closed by this look", label=label)


def _amount(facts: BreakFacts, day: ReconciledEntry) -> int | None:
    """What the provider says where it says anything, else what the log does; in the shop's currency only."""
    if facts.line is not None:
        return facts.line.gross if facts.line.currency == day.currency else None
    return facts.expected
