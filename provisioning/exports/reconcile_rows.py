"""Rows of reconciliation for auditors: each look at a day beside the statement, each break, and how it closed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from appliance.ledger.entry import Entry
from appliance.wire.reconcile_entries import (
    BreakAcceptedEntry,
    BreakFacts,
    ReconciledEntry,
    ReconciledMoreEntry,
)
from appliance.wire.requests import Wire
from provisioning.verify.wording import key_text, time_text

Cells: TypeAlias = dict[str, str | int | None]

TABLES: Final[dict[str, tuple[dict[str, type], str]]] = {
    "reconciled": (
        {
            "seq": int,
            "time": str,
            "day": str,
            "provider": str,
            "number": int,
            "currency": str,
            "charged_minor": int,
            "refunded_minor": int,
            "difference_minor": int,
            "gross_minor": int,
            "fee_minor": int,
            "net_minor": int,
            "open": int,
            "digest": str,
        },
        "seq",
    ),
    "breaks": (
        {
            "break": str,
            "seq": int,
            "provider": str,
            "type": str,
            "owner": str,
            "since": str,
            "subject": str,
            "payment": str,
            "expected_minor": int,
            "listed_minor": int,
            "currency": str,
            "closed_seq": int,
            "reason": str,
        },
        "break",
    ),
}


def opened_cells(entry: Entry, body: Wire) -> Iterator[tuple[str, Cells]]:
    """Table and cells of the rows that the entry adds."""
    if isinstance(body, ReconciledEntry):
        yield (
            "reconciled",
            {
                "seq": entry.seq,
                "time": time_text(entry.time_ms),
                "day": body.day,
                "provider": body.provider,
                "number": body.number,
                "currency": body.currency,
                "charged_minor": body.here.charged,
                "refunded_minor": body.here.refunded,
                "difference_minor": sum(each.amount for each in body.differences),
                "gross_minor": body.there.gross,
                "fee_minor": body.there.fee,
                "net_minor": body.there.net,
                "open": body.open_count,
                "digest": body.digest.hex(),
            },
        )
    if isinstance(body, ReconciledEntry | ReconciledMoreEntry):
        for facts in body.opened:
            yield "breaks", _break_cells(entry.seq, body.provider, facts)


def closed_cells(entry: Entry, body: Wire) -> Iterator[tuple[str, Cells]]:
    """The name of each break that the entry closes, and what changes in its row."""
    if isinstance(body, ReconciledEntry | ReconciledMoreEntry):
        for each in body.closed:
            yield _name(each.entry, each.type, each.subject), {"closed_seq": entry.seq}
    elif isinstance(body, BreakAcceptedEntry):
        yield _name(body.entry, body.type, body.subject), {"closed_seq": entry.seq, "reason": body.reason}


def _break_cells(seq: int, provider: str, facts: BreakFacts) -> Cells:
    line = facts.line
    return {
        "break": _name(seq, facts.type, facts.subject),
        "seq": seq,
        "provider": provider,
        "type": facts.type,
        "owner": facts.owner,
        "since": facts.since,
        "subject": facts.subject,
        "payment": None if facts.payment is None else key_text(facts.payment),
        "expected_minor": facts.expected,
        "listed_minor": None if line is None else line.gross,
        "currency": facts.currency if line is None else line.currency,
    }


def _name(seq: int, kind: str, subject: str) -> str:
    return f"{seq} {kind} {subject}"
