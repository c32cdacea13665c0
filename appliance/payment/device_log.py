"""What the payment tables hold of one device at the counter: what was begun there before and after an operation.

A name that such a device gives begins with its own, so every operation there has one as its target or reference.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from appliance.model.ids import OperationId, ProviderName, ProviderReference
from appliance.model.operation import OperationKind

_NAME_BEFORE: Final = (
    "SELECT reference FROM operations WHERE provider = ?1 AND substr(coalesce(target, reference), 1, ?2) = ?3"
    " AND reference IS NOT NULL AND reference <> ?3 || 'none' AND kind <> 'forward'"
    " AND intent < (SELECT intent FROM operations WHERE id = ?4) ORDER BY intent DESC LIMIT 1"
)
_BEGUN_AFTER: Final = (
    "SELECT kind, target FROM operations WHERE provider = ? AND substr(target, 1, ?) = ?"
    " AND kind <> 'forward' AND intent > coalesce((SELECT intent FROM operations WHERE id = ?), -1)"
    " ORDER BY intent LIMIT 1"
)


def last_name_before(
    connection: sqlite3.Connection, provider: ProviderName, device: str, operation: OperationId
) -> ProviderReference | None:
    """The newest name of a payment that was written down for what was begun at `device` before `operation`.

    A forward is named like the payment that it asks about, which may be an old one.
    """
    row = connection.execute(_NAME_BEFORE, (*_at(provider, device), operation)).fetchone()
    return None if row is None else ProviderReference(row[0])


def begun_after(
    connection: sqlite3.Connection, provider: ProviderName, device: str, operation: OperationId
) -> tuple[OperationKind, ProviderReference] | None:
    """The first operation that was begun at `device` after `operation`, its kind and its target.

    An offer has no target, and a forward moves nothing at the device. An operation of another log, such as a lost
    box's, was begun before everything that this one knows.
    """
    row = connection.execute(_BEGUN_AFTER, (*_at(provider, device), operation)).fetchone()
    return None if row is None else (OperationKind(row[0]), ProviderReference(row[1]))


def _at(provider: ProviderName, device: str) -> tuple[str, int, str]:
    return provider, len(device) + 1, f"{device}/"
