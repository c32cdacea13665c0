"""What the box of a world holds at rest: its log, decoded, and its table of payments.

Owns the reading; must never judge: the `invariants` do.
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from typing import Any

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, Entry, decode
from appliance.model.operation import OperationKind, OperationState
from appliance.wire import entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A row of the table of payments; and of a card that was accepted offline, whether its bank said no later."""

    state: str
    total: int
    cash: int
    card: int
    cash_back: int
    card_back: int
    voucher: int
    voucher_back: int
    is_charged: bool
    is_accepted: bool
    is_lost: bool

    @property
    def is_complete(self) -> bool:
        """It was approved at some time."""
        return self.state != "cancelled" and (self.is_charged or self.is_accepted or self.card == 0)

    @property
    def taken(self) -> int:
        """What the till counted."""
        return self.cash + self.voucher + (self.card if self.is_charged or self.is_accepted else 0)

    @property
    def paid(self) -> int:
        """What could be given back."""
        return self.taken - (self.card if self.is_lost else 0)

    @property
    def back(self) -> int:
        return self.cash_back + self.card_back + self.voucher_back


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgered:
    """What the box itself holds."""

    encoded: list[bytes]
    log: list[tuple[Entry, Any]]
    payments: dict[str, Standing]


def read_ledgered(connection: sqlite3.Connection) -> Ledgered:
    encoded = [row[0] for row in connection.execute("SELECT entry FROM entries ORDER BY seq")]
    log = [(entry, cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)) for entry in map(decode, encoded)]
    accepted = _with_outcome(log, OperationKind.AUTHORISE, OperationState.ACCEPTED)
    lost = _with_outcome(log, OperationKind.FORWARD, OperationState.REJECTED)
    rows = connection.execute(
        "SELECT key, state, total, cash, card, cash_back, card_back, voucher, voucher_back, is_charged FROM payments"
    ).fetchall()
    return Ledgered(
        encoded=encoded,
        log=log,
        payments={
            key_name(key): Standing(
                state=state,
                total=total,
                cash=cash,
                card=card,
                cash_back=cash_back,
                card_back=card_back,
                voucher=voucher,
                voucher_back=voucher_back,
                is_charged=bool(is_charged),
                is_accepted=key in accepted,
                is_lost=key in lost,
            )
            for key, state, total, cash, card, cash_back, card_back, voucher, voucher_back, is_charged in rows
        },
    )


def _with_outcome(log: list[tuple[Entry, Any]], kind: OperationKind, state: OperationState) -> set[bytes]:
    """Payments of which an operation of this kind ended so."""
    return {
        body["payment"]
        for entry, body in log
        if entry.kind == entries.OUTCOME and (body["kind"], body["state"]) == (kind, state)
    }


def key_name(key: bytes) -> str:
    return str(uuid.UUID(bytes=key))
