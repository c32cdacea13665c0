"""Reads of the table of operations: what is open at a provider, what was asked of it, and who was asked."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from typing import Final

from appliance.model.ids import OperationId, ProviderKey, ProviderName, ProviderReference, RequestKey
from appliance.model.money import Money
from appliance.model.offline import Exceeded, OfflineLimit
from appliance.model.operation import OPEN, Operation, OperationKind, OperationState, operation_id

_OPERATIONS: Final = (
    "SELECT id, payment, kind, state, provider_key, amount, currency, terminal, prepared_ms, intent, target, source,"
    " reference, request, held, provider, offline, offline_limit, offline_left,"
    " EXISTS (SELECT 1 FROM retries WHERE retries.payment = operations.payment),"
    " EXISTS (SELECT 1 FROM sale_parts WHERE sale_parts.payment = operations.payment AND is_partial) FROM operations"
)
_COUNTED: Final = "SELECT state, count(*) FROM operations"
_OPEN_STATES: Final = ", ".join(f"'{state}'" for state in sorted(OPEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperation:
    """An operation whose end the ledger does not know."""

    operation: Operation
    state: OperationState
    intent_seq: int
    known: ProviderReference | None


def find_operation(connection: sqlite3.Connection, name: str) -> OpenOperation | None:
    """The operation of this name, whether its end is known or not."""
    row = connection.execute(f"{_OPERATIONS} WHERE id = ?", (name,)).fetchone()
    return None if row is None else _open(*row)


def open_operations(
    connection: sqlite3.Connection, limit: int, *, after: OpenOperation | None = None
) -> tuple[OpenOperation, ...]:
    """The oldest `limit` operations that are neither confirmed, rejected nor proven absent; those behind `after`."""
    place = (-1, "") if after is None else (after.operation.prepared_ms, after.operation.operation_id)
    rows = connection.execute(
        f"{_OPERATIONS} WHERE state IN ({_OPEN_STATES}) AND (prepared_ms, id) > (?, ?)"
        " ORDER BY prepared_ms, id LIMIT ?",
        (*place, limit),
    ).fetchall()
    return tuple(_open(*row) for row in rows)


def charge_before(connection: sqlite3.Connection, provider: ProviderName, intent_seq: int) -> OpenOperation | None:
    """A charge by `provider`, whose clock it bears, intended before the entry `intent_seq`: mostly the newest such."""
    row = connection.execute(
        f"{_OPERATIONS} WHERE kind = ? AND state = ? AND provider = ? AND intent < ? AND reference IS NOT NULL"
        " ORDER BY id DESC LIMIT 1",
        (OperationKind.AUTHORISE.value, OperationState.CONFIRMED.value, provider, intent_seq),
    ).fetchone()
    return None if row is None else _open(*row)


def open_counts(connection: sqlite3.Connection) -> dict[OperationState, int]:
    """How many operations stand in each state that has no end yet, none included."""
    found = dict(connection.execute(f"{_COUNTED} WHERE state IN ({_OPEN_STATES}) GROUP BY state").fetchall())
    return {state: found.get(state, 0) for state in OPEN}


def operation_count(connection: sqlite3.Connection, payment: RequestKey) -> int:
    """How many operations the payment has had; the next one's ordinal."""
    # Names are `<payment>/<n>`, so the primary key finds them; "0" is the character after "/".
    asked = "SELECT count(*) FROM operations WHERE id > ? AND id < ?"
    (count,) = connection.execute(asked, (f"{payment}/", f"{payment}0")).fetchone()
    return int(count)


def exceeded_of(connection: sqlite3.Connection, payment: RequestKey) -> Exceeded | None:
    """The limit that kept a card of the payment from being accepted offline."""
    asked = (
        "SELECT offline_limit, offline_left FROM operations WHERE id > ? AND id < ? AND offline_limit IS NOT NULL"
        " ORDER BY id DESC LIMIT 1"
    )
    row = connection.execute(asked, (f"{payment}/", f"{payment}0")).fetchone()
    return None if row is None else _exceeded(*row)


def provider_of(connection: sqlite3.Connection, payment: RequestKey) -> ProviderName:
    """Who was asked when the payment began; every later operation goes there too."""
    asked = "SELECT provider FROM operations WHERE id = ?"
    (provider,) = connection.execute(asked, (operation_id(payment, 0),)).fetchone()
    return ProviderName(provider)


def _open(
    name: str,
    payment: bytes,
    kind: str,
    state: str,
    provider_key: str,
    amount: int,
    currency: str,
    terminal: str,
    prepared_ms: int,
    intent: int,
    target: str | None,
    source: str | None,
    reference: str | None,
    request: bytes | None,
    held: int,
    provider: str,
    offline: int,
    offline_limit: str | None,
    offline_left: int,
    is_retry: int,
    may_be_partial: int,
) -> OpenOperation:
    return OpenOperation(
        operation=Operation(
            operation_id=OperationId(name),
            kind=OperationKind(kind),
            payment_key=_key(payment),
            provider_key=ProviderKey(provider_key),
            money=Money(amount, currency),
            prepared_ms=prepared_ms,
            terminal=terminal,
            target=target,
            source=source,
            request=None if request is None else _key(request),
            held_minor=held,
            provider=ProviderName(provider),
            is_retry=bool(is_retry),
            may_accept_offline=bool(offline),
            offline_exceeded=_exceeded(offline_limit, offline_left),
            may_be_partial=bool(may_be_partial),
        ),
        state=OperationState(state),
        intent_seq=intent,
        known=None if reference is None else ProviderReference(reference),
    )


def _exceeded(limit: str | None, left_minor: int) -> Exceeded | None:
    return None if limit is None else Exceeded(limit=OfflineLimit(limit), left_minor=left_minor)


def _key(octets: bytes) -> RequestKey:
    return RequestKey(uuid.UUID(bytes=octets))
