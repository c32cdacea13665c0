"""What a finished refund or reversal says of itself."""

from __future__ import annotations

import sqlite3

from appliance.model.ids import RequestKey
from appliance.model.operation import Operation, OperationKind
from appliance.payment.guards import require_payment
from appliance.payment.records import StandingPayment, refund_facts
from appliance.wire.entries import RefundFacts, UndoEntry


def all_left(standing: StandingPayment, reason: str) -> RefundFacts:
    """What giving back everything that is left consists of."""
    left = standing.left
    return RefundFacts(
        cash=left.cash_minor,
        card=left.card_minor,
        stated=left.stated_minor,
        voucher=left.voucher_minor,
        reason=reason,
    )


def undo_entry(
    standing: StandingPayment, facts: RefundFacts, *, operation: Operation | None, request: RequestKey | None
) -> UndoEntry:
    """The entry's facts; `asked` is filled by whoever knows the request, else `request` names it."""
    return UndoEntry(
        asked=None,
        payment=standing.recorded.key.octets,
        request=None if request is None else request.octets,
        currency=standing.recorded.currency,
        cash=facts.cash,
        card=facts.card,
        stated=facts.stated,
        voucher=facts.voucher,
        left=facts.left,
        lines=facts.lines,
        taxes=facts.taxes,
        operation=None if operation is None else operation.operation_id,
        reason=facts.reason,
        tender=standing.tender if facts.card else None,
    )


def confirmed_entry(connection: sqlite3.Connection, operation: Operation) -> UndoEntry:
    """What the confirmation of a refund or reversal adds: the operation's own part, and the cash that goes with it."""
    standing = require_payment(connection, operation.payment_key)
    if operation.kind is OperationKind.REFUND and operation.request is not None:
        facts = refund_facts(connection, operation.request)
    else:
        facts = all_left(standing, "")
    return undo_entry(standing, facts, operation=operation, request=operation.request)
