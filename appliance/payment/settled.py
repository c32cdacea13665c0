"""What the ledger says of an operation after a provider's answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from appliance.model.ids import ProviderReference
from appliance.model.offline import OFFLINE_LIMIT_EXCEEDED
from appliance.model.operation import SALES, Operation, OperationKind, OperationState
from appliance.ports import provider as port

UNREACHABLE: Final = "provider_unreachable"
"""Code of what provably never left the box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What is to be recorded about an operation.

    Attributes:
        done_ms: the provider's clock when it did what is confirmed.
        took_minor: what it took, where that is less than it was asked for.
        moved: what it moved, where that is another money.
    """

    state: OperationState
    reference: ProviderReference | None
    code: str | None
    done_ms: int | None = None
    took_minor: int | None = None
    moved: str | None = None


def settle(operation: Operation, answer: port.Answer) -> Settled:
    """What the ledger says after the first and only time of asking."""
    match answer:
        case port.Confirmed():
            return Settled(
                state=OperationState.CONFIRMED,
                reference=answer.provider_reference,
                code=None,
                done_ms=answer.confirmed_ms,
                moved=answer.settled,
            )
        case port.PartlyConfirmed():
            return _partly(operation, answer)
        case port.AcceptedOffline():
            return _accepted(operation, answer)
        case port.Declined():
            # The till must learn that it was the shop's own limit, and which.
            is_limit = answer.code == port.BANK_UNREACHABLE and operation.offline_exceeded is not None
            code = OFFLINE_LIMIT_EXCEEDED if is_limit else answer.code
            return Settled(state=OperationState.REJECTED, reference=answer.provider_reference, code=code)
        case port.Refused() if operation.kind is OperationKind.FORWARD:
            # No bank has spoken, and the goods are gone: it waits on.
            return Settled(state=OperationState.ABSENT, reference=None, code=answer.code)
        case port.Refused():
            return Settled(state=OperationState.REJECTED, reference=None, code=answer.code)
        case port.NotSent() if operation.kind in SALES or operation.kind is OperationKind.FORWARD:
            return Settled(state=OperationState.ABSENT, reference=None, code=UNREACHABLE)
        case port.NotSent():
            # It was asked for and must still be done: being checked until the resolver starts a new operation.
            return Settled(state=OperationState.UNKNOWN, reference=None, code=UNREACHABLE)
        case port.Unknown():
            return Settled(state=OperationState.UNKNOWN, reference=answer.provider_reference, code=answer.reason)
        case _:
            assert_never(answer)


def _partly(operation: Operation, answer: port.PartlyConfirmed) -> Settled:
    """Less than what was asked for is no approval unless the sale takes it: then somebody has to look."""
    is_right = operation.allows(answer.amount.amount_minor) and answer.amount.currency == operation.money.currency
    return Settled(
        state=OperationState.CONFIRMED if is_right else OperationState.UNKNOWN,
        reference=answer.provider_reference,
        code=None if is_right else "amount_differs",
        done_ms=answer.confirmed_ms if is_right else None,
        took_minor=answer.amount.amount_minor if is_right else None,
    )


def _accepted(operation: Operation, answer: port.AcceptedOffline) -> Settled:
    """Where nobody allowed it, or of another amount, the money may still come: reading tells."""
    code = None if operation.may_accept_offline else "accepted_offline_unasked"
    if answer.amount != operation.money:
        code = "amount_differs"
    state = OperationState.ACCEPTED if code is None else OperationState.UNKNOWN
    return Settled(state=state, reference=answer.provider_reference, code=code)
