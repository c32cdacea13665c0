"""Operations of a lost box, read out of the entries that its escrow parcel proves. Pure.

Owns the reading. Must never decide what became of one: an operation without an end here may have ended since.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.entry import Entry
from appliance.model.ids import OperationId, ProviderKey, ProviderName, ProviderReference, RequestKey
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.model.money import Money
from appliance.model.operation import FIRST_PROVIDER, Operation, OperationKind, OperationState
from appliance.wire import entries
from appliance.wire.escrow_entries import ESCROWED

_OPEN: Final = ("prepared", "unknown")
_IN_DEVICE: Final = "accepted_offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class LostOperation:
    """An operation whose end the lost box did not know.

    Attributes:
        operation: as its intent fixed it; None where this release does not know its kind.
        known: the provider's name for it, where an answer carried one.
        is_in_device: a device accepted the card without its bank, and nobody has asked the bank for it since.
        seq: of the intent.
    """

    payment: RequestKey
    name: str
    kind: str
    money: Money
    provider: str
    operation: Operation | None
    known: ProviderReference | None
    is_in_device: bool
    prepared_ms: int
    seq: int


def lost_operations(proven: Iterable[Entry]) -> tuple[LostOperation, ...]:
    """Those of `proven` (entries in the order of the log) that have no end, in the order of their intents."""
    open_now: dict[str, LostOperation] = {}
    accepted: dict[RequestKey, LostOperation] = {}
    for entry in proven:
        if entry.kind == entries.INTENT:
            lost = _begun(entry)
            open_now[lost.name] = lost
        elif entry.kind == entries.OUTCOME:
            _ended(entry, open_now, accepted)
    asked = {lost.payment for lost in open_now.values()}  # its bank is being asked, or it is being withdrawn
    in_device = [lost for lost in accepted.values() if lost.payment not in asked]
    return tuple(sorted((*open_now.values(), *in_device), key=lambda lost: lost.seq))


def lost_accounts(proven: Iterable[Entry]) -> dict[str, str]:
    """Whose account the lost box asked when its parcel was made, by provider, as far as it knew."""
    said = [entry for entry in proven if entry.kind == ESCROWED]
    return {} if not said else msgspec.convert(cbor.decode(said[-1].body, size_max=ENTRY_BYTES_MAX), _Asked).accounts


_KNOWN: Final = frozenset(
    {
        (OperationKind.FORWARD.value, OperationState.CONFIRMED.value),
        (OperationKind.FORWARD.value, OperationState.REJECTED.value),
        (OperationKind.WITHDRAW.value, OperationState.CONFIRMED.value),
    }
)
"""What ends the waiting of a card that was accepted offline; after anything else it is in its device still."""


class _Asked(msgspec.Struct):
    """What counts of the entry of a parcel; older releases did not say it."""

    accounts: dict[str, str] = msgspec.field(default_factory=dict)


class _Outcome(msgspec.Struct):
    """What counts of an outcome, also of one that a later release wrote."""

    operation: str
    payment: bytes
    state: str
    reference: str | None = None


class _Facts(msgspec.Struct):
    """An operation as its intent has it."""

    id: str
    kind: str
    amount: int
    currency: str
    provider_key: str
    held: int = 0
    source: str | None = None
    target: str | None = None
    offline: bool = False
    provider: str | None = None


class _Sold(msgspec.Struct):
    """What counts of a sale."""

    partial: str = "refused"


class _Begun(msgspec.Struct):
    """What counts of an intent."""

    operation: _Facts
    payment: bytes
    sale: _Sold | None = None
    request: bytes | None = None


def _begun(entry: Entry) -> LostOperation:
    intent = msgspec.convert(cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX), _Begun)
    facts, payment = intent.operation, RequestKey(uuid.UUID(bytes=intent.payment))
    money = Money(facts.amount, facts.currency)
    provider = facts.provider or FIRST_PROVIDER
    return LostOperation(
        payment=payment,
        name=facts.id,
        kind=facts.kind,
        money=money,
        provider=provider,
        operation=None
        if facts.kind not in set(OperationKind)
        else Operation(
            operation_id=OperationId(facts.id),
            kind=OperationKind(facts.kind),
            payment_key=payment,
            provider_key=ProviderKey(facts.provider_key),
            money=money,
            prepared_ms=entry.time_ms,
            terminal=entries.terminal_of(entry.actor),
            target=facts.target,
            source=facts.source,
            held_minor=facts.held,
            provider=ProviderName(provider),
            may_accept_offline=facts.offline,
            may_be_partial=intent.sale is not None and intent.sale.partial == "accepted",
        ),
        known=None,
        is_in_device=False,
        prepared_ms=entry.time_ms,
        seq=entry.seq,
    )


def _ended(entry: Entry, open_now: dict[str, LostOperation], accepted: dict[RequestKey, LostOperation]) -> None:
    outcome = msgspec.convert(cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX), _Outcome)
    lost = open_now.get(outcome.operation)
    if lost is None:
        return
    known = lost.known if outcome.reference is None else ProviderReference(outcome.reference)
    lost = replace(lost, known=known)
    if outcome.state in _OPEN:
        open_now[lost.name] = lost
        return
    del open_now[lost.name]
    if outcome.state == _IN_DEVICE:
        accepted[lost.payment] = replace(lost, is_in_device=True)
    elif (lost.kind, outcome.state) in _KNOWN:
        accepted.pop(lost.payment, None)
