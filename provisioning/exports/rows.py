"""From an entry to the rows of an auditor's tables, and to the changes it makes to earlier rows. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from appliance.ledger.entry import Entry, entry_hash
from appliance.model.errors import Rejected
from appliance.model.operation import OperationKind, OperationState
from appliance.model.payment import STATE_AFTER, PaymentState
from appliance.model.sale import MOVED_BY_PROVIDERS
from appliance.wire import entries
from appliance.wire.requests import Wire
from provisioning.exports.reconcile_rows import closed_cells, opened_cells
from provisioning.exports.till_rows import till_cells
from provisioning.verify.bodies import Body, read_body
from provisioning.verify.wording import key_text, time_text

Cell: TypeAlias = str | int | None
_INTEGER_LIMIT: Final = 2**63  # SQLite's integers

_STATE_AFTER: Final[dict[tuple[str, str], PaymentState]] = {
    which: after for which, after in STATE_AFTER.items() if after is not None and after is not PaymentState.CHECKING
}
"""What refunds and reversals do to a sale is told by their own entries; while they are asked, by `operations`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A new row."""

    table: str
    cells: dict[str, Cell]


@dataclass(frozen=True, slots=True)
class Change:
    """A change to earlier rows: those whose `column` is `key`."""

    table: str
    column: str
    key: str
    cells: dict[str, Cell]


def rows_of(entry: Entry) -> list[Row | Change]:
    """The entry's own row first. A body that breaks its kind's promise is told in `problem`, the bytes stay proven."""
    try:
        body, plain = read_body(entry)
        made = list(_rows(entry, body))
        if not all(_fits(row.cells) for row in made):
            raise Rejected("entry_body_malformed", "a number is beyond 63 bits")
        return [_entry_row(entry, plain, None), *made]
    except Rejected as refusal:
        return [_entry_row(entry, {"bytes": entry.body.hex()}, refusal.detail)]


def _fits(cells: dict[str, Cell]) -> bool:
    return all(not isinstance(cell, int) or -_INTEGER_LIMIT <= cell < _INTEGER_LIMIT for cell in cells.values())


def _entry_row(entry: Entry, body: dict[str, object], problem: str | None) -> Row:
    cells: dict[str, Cell] = {
        "seq": entry.seq,
        "time": time_text(entry.time_ms),
        "kind": entry.kind,
        "actor": entry.actor,
        "hash": entry_hash(entry.encoded).hex(),
        "body": msgspec.json.encode(body).decode(),
        "problem": problem,
    }
    return Row("entries", cells)


def _rows(entry: Entry, body: Body) -> Iterator[Row | Change]:
    match body:
        case entries.SaleEntry():
            yield from _sale(entry, key_text(body.asked.key), body.sale, PaymentState.APPROVED)
        case entries.IntentEntry():
            yield from _intent(entry, body)
        case entries.OutcomeEntry():
            yield from _outcome(entry, body)
        case entries.UndoEntry():
            yield from _undo(entry, body)
        case entries.TerminalPairedEntry():
            key_id = hashlib.sha256(body.public_key).hexdigest()
            paired = time_text(entry.time_ms)
            yield Row("terminals", {"seq": entry.seq, "paired": paired, "terminal": body.terminal, "key_id": key_id})
        case entries.TerminalRevokedEntry():
            revoked: dict[str, Cell] = {"revoked": time_text(entry.time_ms), "reason": body.reason}
            yield Change("terminals", "terminal", body.terminal, revoked)
        case Wire() if (of_till := till_cells(entry, body)) is not None:
            yield Row(*of_till)
        case Wire():
            yield from (Row(*opened) for opened in opened_cells(entry, body))
            yield from (Change("breaks", "break", *closed) for closed in closed_cells(entry, body))
        case _:
            pass


def _sale(entry: Entry, payment: str, sale: entries.SaleFacts, state: PaymentState) -> Iterator[Row]:
    tendered = Counter[str]()
    for tender in sale.tenders:
        tendered[tender.kind] += tender.amount_minor
    yield Row(
        "sales",
        {
            "seq": entry.seq,
            "time": time_text(entry.time_ms),
            "payment": payment,
            "terminal": entries.terminal_of(entry.actor),
            "sold_at": time_text(sale.sold_at_ms),
            "reference": sale.reference,
            "currency": sale.currency,
            "total_minor": sale.total - sale.remaining,
            "remaining_minor": sale.remaining,
            "part_of": None if sale.part_of is None else key_text(sale.part_of),
            "tip_minor": sale.tip,
            "rounding_minor": sale.rounding,
            "change_minor": sale.change,
            "cash_minor": tendered["cash"] - sale.change,
            "card_minor": sum(tendered[kind.value] for kind in MOVED_BY_PROVIDERS),
            "card_stated_minor": tendered["card_stated"],
            "voucher_minor": tendered["voucher"],
            "prices": sale.prices,
            "state": state.value,
            "approved": int(state is PaymentState.APPROVED),
        },
    )
    parts: tuple[tuple[str, Sequence[Wire]], ...] = (
        ("lines", sale.lines),
        ("taxes", sale.taxes),
        ("tenders", sale.tenders),
    )
    place: dict[str, Cell] = {"seq": entry.seq, "payment": payment, "currency": sale.currency}
    for table, items in parts:
        for position, item in enumerate(items):
            yield Row(table, {**place, "position": position, **msgspec.structs.asdict(item)})


def _intent(entry: Entry, body: entries.IntentEntry) -> Iterator[Row | Change]:
    operation, payment = body.operation, key_text(body.payment)
    if body.sale is not None:
        yield from _sale(entry, payment, body.sale, PaymentState.CHECKING)
    yield Row(
        "operations",
        {
            "seq": entry.seq,
            "time": time_text(entry.time_ms),
            "id": operation.id,
            "payment": payment,
            "kind": operation.kind,
            "amount_minor": operation.amount,
            "currency": operation.currency,
            "terminal": entries.terminal_of(entry.actor),
            "state": OperationState.PREPARED.value,
        },
    )


def _outcome(entry: Entry, body: entries.OutcomeEntry) -> Iterator[Change]:
    settled: dict[str, Cell] = {
        "state": body.state,
        "outcome_seq": entry.seq,
        "outcome_time": time_text(entry.time_ms),
        "code": body.code,
    }
    if body.reference is not None:
        settled["reference"] = body.reference
    yield Change("operations", "id", body.operation, settled)
    after = _STATE_AFTER.get((body.kind, body.state))
    if after is None:
        return
    cells: dict[str, Cell] = {"state": after.value}
    if after in (PaymentState.APPROVED, PaymentState.ACCEPTED_OFFLINE):
        cells["approved"] = 1  # the goods go; what a bank refuses later is told by the state
    if body.amount is not None:
        cells["card_minor"] = body.amount  # a capture may take less than what was held
        if body.kind == OperationKind.AUTHORISE:
            cells["total_minor"] = body.amount  # a card alone that was approved for less
    yield Change("sales", "payment", key_text(body.payment), cells)


def _undo(entry: Entry, body: entries.UndoEntry) -> Iterator[Row | Change]:
    payment = key_text(body.payment)
    yield Row(
        "refunds",
        {
            "seq": entry.seq,
            "time": time_text(entry.time_ms),
            "kind": entry.kind,
            "payment": payment,
            "terminal": entries.terminal_of(entry.actor),
            "cash_minor": body.cash,
            "card_minor": body.card,
            "card_stated_minor": body.stated,
            "voucher_minor": body.voucher,
            "left_minor": body.left,
            "currency": body.currency,
            "operation": body.operation,
            "reason": body.reason,
        },
    )
    state = PaymentState.PARTLY_REFUNDED if body.left else PaymentState.REFUNDED
    state = PaymentState.REVERSED if entry.kind == entries.REVERSAL else state
    yield Change("sales", "payment", payment, {"state": state.value})
