"""Reads entries of the log as events for one terminal."""

from __future__ import annotations

import uuid
from sqlite3 import Connection
from typing import Any, Final

import msgspec

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.model.ids import RequestKey, TerminalId, request_key
from appliance.model.operation import OperationKind, OperationState
from appliance.model.payment import STATE_AFTER, PaymentState
from appliance.model.refund import Share
from appliance.payment.entry_body import VERBS, body_of, state_after_refund
from appliance.payment.guards import require_payment
from appliance.payment.history import refunded_before, wanted_back_before
from appliance.payment.records import find_payment, sold_by
from appliance.wire import entries
from appliance.wire.answers import Event

EVENTS_MAX: Final = 500
_KINDS: Final = frozenset(
    {
        entries.SALE,
        entries.INTENT,
        entries.OUTCOME,
        entries.REFUND,
        entries.REVERSAL,
        entries.TOMBSTONE,
        entries.REVERSAL_WANTED,
        entries.SALE_GIVEN_UP,
    }
)

_KEEPS_MONEY: Final = frozenset(
    {
        PaymentState.APPROVED,
        PaymentState.AUTHORISED,
        PaymentState.ACCEPTED_OFFLINE,
        PaymentState.PARTLY_REFUNDED,
    }
)


async def events_after(ledger: Ledger, terminal: TerminalId, after: int) -> tuple[tuple[Event, ...], int]:
    """What the terminal did, and what others did to its sales, behind entry `after`; and how far was read.

    Any terminal of the shop may take a sale back; the one that sold it has to learn of that.
    """
    page = await ledger.entries(after=after, limit=EVENTS_MAX, kinds=_KINDS)

    def look(connection: Connection) -> tuple[Event, ...]:
        events = [(entries.terminal_of(entry.actor) == terminal, _event(connection, entry)) for entry in page.entries]
        undone = [event.key for is_own, event in events if not is_own and event.verb != "payment"]
        sold = sold_by(connection, terminal, undone)
        return tuple([event for is_own, event in events if is_own or event.key in sold])

    return await ledger.read(look) if page.entries else (), page.next_after


async def news(ledger: Ledger, after: int, limit: int) -> list[dict[str, Any]]:
    """What happened behind entry `after` at any terminal, with how the payment stands now, for a person who watches."""
    page = await ledger.entries(after=after, limit=limit, kinds=_KINDS)

    def look(connection: Connection) -> list[dict[str, Any]]:
        told = []
        for event in [_event(connection, entry) for entry in page.entries]:
            standing = find_payment(connection, request_key(event.key))
            if standing is not None:
                recorded = standing.recorded
                told.append(
                    {
                        **msgspec.structs.asdict(event),
                        "terminal": standing.terminal,
                        "currency": recorded.currency,
                        "total_minor": recorded.total_minor,
                        "tender": standing.tender or _tender(standing.paid),
                    }
                )
        return told

    return await ledger.read(look)


def _tender(paid: Share) -> str:
    """The tender that has the most to tell: the one that may take time, then the one that nothing proves."""
    if paid.card_minor:
        return "card"
    if paid.stated_minor:
        return "card stated by cashier"
    return "voucher" if paid.voucher_minor else "cash"


def _event(connection: Connection, entry: RecordedEntry) -> Event:
    match entry.kind:
        case entries.SALE:
            return _of(entry, body_of(entry, entries.SaleEntry).asked.key, "payment", PaymentState.APPROVED)
        case entries.INTENT:
            return _intent(connection, entry)
        case entries.OUTCOME:
            return _outcome(connection, entry)
        case entries.REFUND:
            refund = body_of(entry, entries.UndoEntry)
            state = _unless_wanted_back(connection, entry, refund.payment, state_after_refund(refund))
            return _of(entry, refund.payment, "refund", state)
        case entries.REVERSAL:
            return _of(entry, body_of(entry, entries.UndoEntry).payment, "reversal", PaymentState.REVERSED)
        case entries.SALE_GIVEN_UP:
            return _of(entry, body_of(entry, entries.SaleGivenUpEntry).payment, "reversal", PaymentState.CHECKING)
        case entries.REVERSAL_WANTED:
            return _of(entry, body_of(entry, entries.ReversalWantedEntry).payment, "reversal", PaymentState.CHECKING)
        case _:
            return _of(entry, body_of(entry, entries.TombstoneEntry).payment, "reversal", PaymentState.CANCELLED)


def _intent(connection: Connection, entry: RecordedEntry) -> Event:
    intent = body_of(entry, entries.IntentEntry)
    state = PaymentState.CHECKING
    if intent.operation.kind == OperationKind.FORWARD:  # until its bank says something, it is what it was
        state = _unless_wanted_back(connection, entry, intent.payment, PaymentState.ACCEPTED_OFFLINE)
    return _of(entry, intent.payment, VERBS[OperationKind(intent.operation.kind)], state)


def _outcome(connection: Connection, entry: RecordedEntry) -> Event:
    body = body_of(entry, entries.OutcomeEntry)
    state = STATE_AFTER[OperationKind(body.kind), OperationState(body.state)]
    if state is None:  # the money was not given back: the payment stands as before
        was_refunded = refunded_before(connection, body.payment, entry.seq)
        state = PaymentState.PARTLY_REFUNDED if was_refunded else PaymentState.APPROVED
    if state is PaymentState.EXPIRED and body.request is not None:
        state = PaymentState.CHECKING  # given up for a reversal, told by the entry that follows it in the same commit
    state = _unless_wanted_back(connection, entry, body.payment, state)
    return _of(entry, body.payment, VERBS[OperationKind(body.kind)], state, body.code)


def _unless_wanted_back(
    connection: Connection, entry: RecordedEntry, payment: bytes, state: PaymentState
) -> PaymentState:
    """`state`, or being checked where a reversal was durable by then: nobody may take it for a sale that stands."""
    keeps_money = state in _KEEPS_MONEY or (
        state is PaymentState.DECLINED_AFTER_HANDOVER and _is_more_than_card(connection, payment)
    )
    return PaymentState.CHECKING if keeps_money and wanted_back_before(connection, payment, entry.seq) else state


def _is_more_than_card(connection: Connection, payment: bytes) -> bool:
    """What paid beside a lost card still goes back, where that was asked for."""
    paid = require_payment(connection, RequestKey(uuid.UUID(bytes=payment))).paid
    return paid.total_minor > paid.card_minor


def _of(entry: RecordedEntry, key: bytes, verb: str, state: PaymentState, code: str | None = None) -> Event:
    return Event(seq=entry.seq, key=str(uuid.UUID(bytes=key)), verb=verb, state=state.value, code=code)
