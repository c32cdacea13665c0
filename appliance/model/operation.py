"""One attempt to move money at a provider, and the whole truth about its states.

`UNKNOWN` is "being checked", never failed: only evidence leaves it. The table below is the only place that says
which step may follow which; projections, resolver and tests read it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from appliance.model.ids import OperationId, ProviderKey, ProviderName, RequestKey
from appliance.model.invariants import ensure
from appliance.model.money import Money
from appliance.model.offline import Exceeded


class OperationKind(StrEnum):
    """What the provider is asked to do."""

    OFFER = "offer"  # let the customer agree at the provider; takes and holds nothing
    AUTHORISE = "authorise"  # take the money at once
    RESERVE = "reserve"  # have the card's bank hold it
    CAPTURE = "capture"  # take what is held
    CANCEL = "cancel"  # give up what is held
    REFUND = "refund"
    REVERSE = "reverse"
    FORWARD = "forward"  # ask the bank for what was accepted offline
    WITHDRAW = "withdraw"  # forget what was accepted offline, so that its bank is never asked


class OperationState(StrEnum):
    """Where an operation stands, as far as the ledger knows."""

    PREPARED = "prepared"  # the intent is durable; the provider may or may not have been asked
    CONFIRMED = "confirmed"  # the provider did it
    ACCEPTED = "accepted_offline"  # a card was taken without its bank: the money hangs on a forward
    REJECTED = "rejected"  # the provider said no, in a typed answer
    UNKNOWN = "unknown"  # asked, and no usable answer
    ABSENT = "absent"  # two complete listings prove that the provider never did it


NEXT: Final[dict[OperationState, frozenset[OperationState]]] = {
    OperationState.PREPARED: frozenset(
        {
            OperationState.CONFIRMED,
            OperationState.ACCEPTED,
            OperationState.REJECTED,
            OperationState.UNKNOWN,
            OperationState.ABSENT,
        }
    ),
    OperationState.UNKNOWN: frozenset(
        {OperationState.CONFIRMED, OperationState.ACCEPTED, OperationState.REJECTED, OperationState.ABSENT}
    ),
    OperationState.CONFIRMED: frozenset(),
    OperationState.ACCEPTED: frozenset(),
    OperationState.REJECTED: frozenset(),
    OperationState.ABSENT: frozenset(),
}
"""SENT of the architecture is not a durable state: after a crash a prepared operation counts as sent."""

FIRST_PROVIDER: Final = ProviderName("stripe")
"""Whom intents mean that name no provider: they were written when there was one only."""

SALES: Final = frozenset({OperationKind.OFFER, OperationKind.AUTHORISE, OperationKind.RESERVE})
"""Kinds that begin a payment: proven absent they close it. The first one's intent holds the sale."""

OPEN: Final = frozenset(state for state, following in NEXT.items() if following)


def advance(state: OperationState, following: OperationState) -> OperationState:
    """`following`, if the table allows it after `state`; else a bug."""
    ensure(following in NEXT[state], f"an operation goes from {state} to one of its listed states, not to {following}")
    return following


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a durable intent says about one operation.

    Attributes:
        operation_id: `<payment key>/<n>`, n counts the operations of one payment from 0.
        provider_key: idempotency key at the provider; used for one request only, never sent again.
        prepared_ms: when the intent was made; listings start a little before it.
        target: the provider's name of the charge that a refund or reversal undoes, or of what the customer agreed to.
        source: where the card is, for what begins a payment.
        request: the capture, refund or reversal that it serves; None for what begins a payment, and where the box acts
            by itself.
        held_minor: what the card's bank holds of the target, for capture and cancel.
        provider: who is asked.
        is_retry: it begins a payment that tries another one again: when it stands, the other must not.
        may_accept_offline: the card may be taken without its bank; the limits were reserved with the intent.
        offline_exceeded: the limit that forbids it, where the provider could.
        may_be_partial: the provider may take less than `money`.
    """

    operation_id: OperationId
    kind: OperationKind
    payment_key: RequestKey
    provider_key: ProviderKey
    money: Money
    prepared_ms: int
    terminal: str
    target: str | None
    source: str | None
    request: RequestKey | None = None
    held_minor: int = 0
    provider: ProviderName = FIRST_PROVIDER
    is_retry: bool = False
    may_accept_offline: bool = False
    offline_exceeded: Exceeded | None = None
    may_be_partial: bool = False

    def allows(self, took_minor: int) -> bool:
        """Whether it is done with so much less than `money`."""
        return self.may_be_partial and 0 < took_minor < self.money.amount_minor

    def agreed(self, ordinal: int, now_ms: int, target: str) -> Operation:
        """Take the money of this offer: the customer agreed to `target`."""
        return replace(self.again(ordinal, now_ms), kind=OperationKind.AUTHORISE, target=target)

    def again(self, ordinal: int, now_ms: int) -> Operation:
        """The same once more, under a name and a provider key never used before."""
        name = operation_id(self.payment_key, ordinal)
        return replace(self, operation_id=name, provider_key=ProviderKey(name), prepared_ms=now_ms)


def operation_id(payment_key: RequestKey, ordinal: int) -> OperationId:
    """The name of a payment's `ordinal`-th operation."""
    return OperationId(f"{payment_key}/{ordinal}")
