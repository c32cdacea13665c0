"""Money that a provider has of a payment that the log closed without any: written down once, and told to the owner.

The log stays as it is: no outcome follows a final one, and nothing is given back by itself. Whoever knows where
the goods are decides, and does it at the provider.

* A provider is read again for `LOOK_BACK_MS` after an operation of its was closed, where customers move the money
  themselves: what was under way when the waiting ended may arrive after it. Webhooks find the rest.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.ledger.draft import Purpose, RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import OperationId, ProviderName, RequestKey
from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.model.money import Money
from appliance.model.operation import SALES, OperationState
from appliance.payment.drafts import contradicted_draft
from appliance.payment.entry_body import body_of
from appliance.payment.operate import Operations
from appliance.payment.operation_records import OpenOperation, find_operation
from appliance.ports.clock import Clock
from appliance.ports.provider import Confirmed, Found, PartlyConfirmed, Unknown
from appliance.runtime.log import Log
from appliance.wire import entries

CLOSED_UNPAID: Final = frozenset({OperationState.REJECTED, OperationState.ABSENT})
LOOK_BACK_MS: Final = 2 * HOUR_MS
TOLD_MS: Final = 30 * DAY_MS
"""How long health tells of it."""
LOOK_EVERY_MS: Final = 10 * MINUTE_MS
LOOKED_AT_MAX: Final = 256
_CLOSED_READ_MAX: Final = 8_192
"""Of everybody's: declined cards must not hide what a customer may still pay."""


class ContradictionProjection:
    """What was closed without money under a provider's name, and what was contradicted since."""

    name: Final = "contradictions"
    tables: Final = ("closed_unpaid", "contradictions")
    schema: Final = (
        "CREATE TABLE closed_unpaid (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, operation TEXT NOT NULL)",
        "CREATE TABLE contradictions (operation TEXT PRIMARY KEY, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
        " payment BLOB NOT NULL, provider TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL)"
        " WITHOUT ROWID",
    )
    kinds: Final = frozenset({entries.OUTCOME, entries.CONTRADICTED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """One row for each."""
        for entry in recorded:
            if entry.kind == entries.OUTCOME:
                outcome = body_of(entry, entries.OutcomeEntry)
                if outcome.state in CLOSED_UNPAID and outcome.kind in SALES and outcome.reference is not None:
                    row = (entry.seq, entry.time_ms, outcome.operation)
                    connection.execute("INSERT INTO closed_unpaid VALUES (?, ?, ?)", row)
                continue
            body = body_of(entry, entries.ContradictedEntry)
            connection.execute(
                "INSERT INTO contradictions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (body.operation, entry.seq, entry.time_ms, body.payment, body.provider, body.amount, body.currency),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotToldYet:
    """The log still says that nothing was paid, and nobody wrote down otherwise: of two looks one is written."""

    operation_id: OperationId

    def check(self, connection: sqlite3.Connection) -> None:
        known = find_operation(connection, self.operation_id)
        told = connection.execute("SELECT 1 FROM contradictions WHERE operation = ?", (self.operation_id,)).fetchone()
        if known is None or known.state not in CLOSED_UNPAID or told is not None:
            raise Rejected("operation_closed", "the operation has its money, or this was written down before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradicted:
    """One of them, for people. Attributes: `seq`, of its entry."""

    seq: int
    payment: RequestKey
    provider: str
    money: Money


class Contradictions:
    """Attributes: `told`, those of the last `TOLD_MS`, as of the last look."""

    def __init__(self, *, ledger: Ledger, operations: Operations, clock: Clock, log: Log) -> None:
        self._ledger = ledger
        self._operations = operations
        self._clock = clock
        self._log = log
        self._next_look_ms = 0
        self.told: tuple[Contradicted, ...] = ()

    async def tell(self, known: OpenOperation, answer: Confirmed | PartlyConfirmed) -> None:
        """Write down, once, that the provider has the money of what the log closed without."""
        operation = known.operation
        draft = contradicted_draft(operation, known.state, answer, self._clock.now_ms())
        try:
            await self._ledger.append([draft], NotToldYet(operation_id=operation.operation_id), purpose=Purpose.OUTCOME)
        except Rejected as refusal:
            self._log.info("contradiction.known", operation=operation.operation_id, code=refusal.code)
        else:
            self._log.error("payment.contradicted", operation=operation.operation_id, state=known.state.value)
        await self._refresh()

    async def look_back(self) -> None:
        """Read again what was closed a short while ago where customers move the money themselves; seldom."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_look_ms:
            return
        self._next_look_ms = now_ms + LOOK_EVERY_MS
        since_ms = self._clock.now_ms() - LOOK_BACK_MS
        names = self._operations.providers.paid_by_customers
        closed = await self._ledger.read(lambda found: closed_since(found, since_ms, names), purpose=Purpose.OUTCOME)
        for known in closed:
            said = await self._operations.find(known.operation, since_ms=0, known=known.known)
            if isinstance(said, Unknown) and said.has_hung:
                break  # a provider that hangs must not keep the others from being looked at
            if isinstance(said, Found) and isinstance(said.answer, Confirmed | PartlyConfirmed):
                await self.tell(known, said.answer)
        await self._refresh()

    async def _refresh(self) -> None:
        since_ms = self._clock.now_ms() - TOLD_MS
        self.told = await self._ledger.read(lambda found: _told_since(found, since_ms), purpose=Purpose.OUTCOME)


def closed_since(
    connection: sqlite3.Connection, since_ms: int, providers: Collection[ProviderName]
) -> tuple[OpenOperation, ...]:
    """What was closed unpaid at one of `providers` since then and is not contradicted yet, the newest first."""
    rows = connection.execute(
        "SELECT c.operation FROM (SELECT * FROM closed_unpaid ORDER BY seq DESC LIMIT ?) c"
        " JOIN operations o ON o.id = c.operation WHERE c.at_ms >= ? AND o.provider IN (SELECT value FROM json_each(?))"
        " AND c.operation NOT IN (SELECT operation FROM contradictions) ORDER BY c.seq DESC LIMIT ?",
        (_CLOSED_READ_MAX, since_ms, json.dumps(sorted(providers)), LOOKED_AT_MAX),
    ).fetchall()
    found = (find_operation(connection, name) for (name,) in rows)
    return tuple(known for known in found if known is not None)


def _told_since(connection: sqlite3.Connection, since_ms: int) -> tuple[Contradicted, ...]:
    rows = connection.execute(
        "SELECT seq, payment, provider, amount, currency FROM contradictions WHERE at_ms >= ? ORDER BY seq", (since_ms,)
    ).fetchall()
    return tuple(
        Contradicted(
            seq=seq, payment=RequestKey(uuid.UUID(bytes=payment)), provider=provider, money=Money(amount, currency)
        )
        for seq, payment, provider, amount, currency in rows
    )
