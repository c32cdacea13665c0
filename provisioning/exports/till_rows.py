"""Cells of the till's tables for auditors: what was done to drawers, and every closed period. Pure."""

from __future__ import annotations

from typing import Final, TypeAlias

from appliance.ledger.entry import Entry
from appliance.wire import entries
from appliance.wire.requests import Wire
from appliance.wire.till_entries import (
    DayClosedEntry,
    DrawerEntry,
    PeriodClosedEntry,
    PeriodFacts,
    VoucherIssuedEntry,
    VoucherVoidedEntry,
)
from provisioning.verify.wording import key_text, time_text

Cells: TypeAlias = dict[str, str | int | None]
Table: TypeAlias = tuple[dict[str, type], str]

TABLES: Final[dict[str, Table]] = {
    "drawer_acts": (
        {
            "seq": int,
            "time": str,
            "act": str,
            "terminal": str,
            "drawer": str,
            "amount_minor": int,
            "currency": str,
            "reason": str,
        },
        "seq",
    ),
    "closings": (
        {
            "seq": int,
            "time": str,
            "scope": str,
            "name": str,
            "number": int,
            "day": str,
            "after_seq": int,
            "until_seq": int,
            "currency": str,
            "sales": int,
            "total_minor": int,
            "tips_minor": int,
            "rounding_minor": int,
            "refunds": int,
            "refunded_minor": int,
            "reversals": int,
            "reversed_minor": int,
            "opening_minor": int,
            "expected_minor": int,
            "difference_minor": int,
            "left_minor": int,
            "open": int,
            "late": int,
            "vouchers_minor": int,
            "owed_minor": int,
            "parts_taken_minor": int,
            "parts_sold_minor": int,
            "parts_returned_minor": int,
            "incomplete": int,
        },
        "seq",
    ),
    "vouchers": (
        {
            "seq": int,
            "time": str,
            "act": str,
            "terminal": str,
            "voucher": str,
            "amount_minor": int,
            "currency": str,
            "expires": str,
            "payment": str,
            "reason": str,
        },
        "seq",
    ),
}


def till_cells(entry: Entry, body: Wire) -> tuple[str, Cells] | None:
    """Table and cells of a till's entry; None for any other kind."""
    place: Cells = {"seq": entry.seq, "time": time_text(entry.time_ms)}
    match body:
        case DrawerEntry():
            return "drawer_acts", {
                **place,
                "act": entry.kind.removeprefix("drawer_"),
                "terminal": entries.terminal_of(entry.actor),
                "drawer": body.drawer,
                "amount_minor": body.amount,
                "currency": body.currency,
                "reason": body.reason,
            }
        case VoucherIssuedEntry() | VoucherVoidedEntry():
            expires = body.expires if isinstance(body, VoucherIssuedEntry) else None
            return "vouchers", {
                **place,
                "act": entry.kind.removeprefix("voucher_"),
                "terminal": entry.actor.removeprefix("terminal:"),
                "voucher": body.voucher.hex(),
                "amount_minor": body.amount,
                "currency": body.currency,
                "expires": None if expires is None else time_text(expires),
                "payment": None if body.payment is None else key_text(body.payment),
                "reason": body.reason,
            }
        case PeriodClosedEntry():
            return "closings", {**place, **_period_cells(body.period)}
        case DayClosedEntry():
            of_day: Cells = {"day": body.day, "open": body.open_count, "late": body.late_count}
            return "closings", {**place, **_period_cells(body.period), **of_day}
        case _:
            return None


def _period_cells(period: PeriodFacts) -> Cells:
    totals = period.totals
    cells: Cells = {
        "scope": period.scope,
        "name": period.name,
        "number": period.number,
        "after_seq": period.after,
        "until_seq": period.until,
        "currency": period.currency,
        "sales": totals.sales,
        "total_minor": totals.total,
        "tips_minor": totals.tips,
        "rounding_minor": totals.rounding,
        "refunds": totals.refunds,
        "refunded_minor": totals.refunded,
        "reversals": totals.reversals,
        "reversed_minor": totals.reversed,
        "vouchers_minor": totals.vouchers,
        "owed_minor": period.owed,
        "parts_taken_minor": totals.parts_taken,
        "parts_sold_minor": totals.parts_sold,
        "parts_returned_minor": totals.parts_returned,
        "incomplete": period.incomplete_count,
    }
    if period.cash is not None:
        cells["opening_minor"] = period.cash.opening
        cells["expected_minor"] = period.cash.expected
        cells["difference_minor"] = period.cash.difference
        cells["left_minor"] = period.cash.left
    return cells
