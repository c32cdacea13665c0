"""What giving a payment back consists of: cash from the drawer, the card's part by the provider."""

from __future__ import annotations

from appliance.model.ids import OperationId, ProviderKey, TerminalId
from appliance.model.invariants import ensure
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.payment.records import StandingPayment
from appliance.wire.entries import UndoEntry


def undo_entry(standing: StandingPayment, operation: Operation | None, reason: str) -> UndoEntry:
    """The facts of a finished refund or reversal; `asked` is filled by whoever knows the request."""
    return UndoEntry(
        asked=None,
        payment=standing.recorded.key.octets,
        currency=standing.recorded.currency,
        cash=standing.cash_minor,
        card=standing.card_minor,
        operation=None if operation is None else operation.operation_id,
        reason=reason,
    )


def undo_operation(
    standing: StandingPayment, kind: OperationKind, ordinal: int, terminal: TerminalId, now_ms: int
) -> Operation:
    """The operation that gives the card's part back, under a provider key never used before."""
    ensure(standing.provider_reference is not None, "an approved card payment has a provider's reference")
    name: OperationId = operation_id(standing.recorded.key, ordinal)
    return Operation(
        operation_id=name,
        kind=kind,
        payment_key=standing.recorded.key,
        provider_key=ProviderKey(name),
        money=Money(standing.card_minor, standing.recorded.currency),
        prepared_ms=now_ms,
        terminal=terminal,
        target=standing.provider_reference,
        source=None,
    )
