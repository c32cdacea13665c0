"""The bodies of entries about escrow. As `entries.py`: what is written stays. Source: docs/formats/entry-kinds.md."""

from __future__ import annotations

from typing import Final

import msgspec

from appliance.wire.requests import Wire

ESCROWED: Final = "escrowed"
ESCROW_RECOVERED: Final = "escrow_recovered"


class EscrowedEntry(Wire, frozen=True, kw_only=True):
    """kind `escrowed`: terminals get a parcel that lists `waiting` payments; `digest` is SHA-256 of that list.

    Attributes:
        accounts: whose account this box asks, by provider, as far as it was known.
    """

    digest: bytes
    waiting: int
    left_out: int = 0
    accounts: dict[str, str] = msgspec.field(default_factory=dict)


class RecoveredEntry(Wire, frozen=True, kw_only=True):
    """kind `escrow_recovered`: what a provider says, read back here, of an operation that a lost box began.

    No money moved by it. Each operation of each log has one such entry at most, and one more that says `unknown`.

    Attributes:
        log: the lost box's log, by its id.
        state: `confirmed`, `rejected` or `absent`; or `unknown`: nothing was found, and `code` says why that is no end.
    """

    log: bytes
    code: str | None = None
    kind: str
    state: str
    amount: int
    origin: str
    payment: bytes
    currency: str
    provider: str
    operation: str
    reference: str | None = None
