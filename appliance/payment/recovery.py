"""What became of a lost box's operations: asked of the providers by reading, and recorded once each.

Rules:
- Nothing here moves money. What the lost box forwarded after its last parcel is found as done; what it never did is
  left to the owner, with its proof. So nothing is ever done a second time.
- That something never happened is said after two complete listings, `settle_ms` apart on the provider's clock; and only
  where the lost log names the account that is asked here too: in another account nothing is ever found.
- What the lost log alone would have known is no end: the box may have gone on after its parcel.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose, RecordedEntry
from appliance.ledger.genesis import LogId
from appliance.ledger.guard import KeysUnused
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.limits import DAY_MS
from appliance.payment.entry_body import body_of
from appliance.payment.lost_operations import LostOperation
from appliance.payment.operate import Operations
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.wire import escrow_entries

_MARGIN_MS: Final = 7 * DAY_MS
"""How far before the intent a listing starts: the lost box's clock cannot be asked any more."""
_ACTOR: Final = "operator"
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """How a lost operation stands.

    Attributes:
        state: `confirmed`, `rejected`, `absent`; `unknown`: nothing was found, which proves nothing, and `code` says
            why; `ask_again`; `in_device`: only the device or its acquirer can tell; `provider_missing`: the settings
            here do not name the provider; `unknown_kind`.
        seq: the entry here that says so, for the first four; only the first three are final.
        account_lost: whom the lost box asked, as its log says; None where it does not.
        account_here: whom this box asks; None where it does not know.
    """

    operation: LostOperation
    state: str
    reference: str | None = None
    code: str | None = None
    seq: int | None = None
    account_lost: str | None = None
    account_here: str | None = None

    @property
    def is_final(self) -> bool:
        return self.seq is not None and self.state != _UNKNOWN


class RecoveredProjection:
    """Which operations of lost logs are settled here."""

    name: Final = "recovered"
    tables: Final = ("recovered",)
    schema: Final = (
        # key: log id || operation, so that one guard finds it; behind an `unknown` its reason, which keeps no end out.
        "CREATE TABLE recovered (key BLOB PRIMARY KEY, state TEXT NOT NULL, reference TEXT, code TEXT,"
        " seq INTEGER NOT NULL) WITHOUT ROWID",
    )
    kinds: Final = frozenset({escrow_entries.ESCROW_RECOVERED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """One row per entry."""
        for entry in recorded:
            body = body_of(entry, escrow_entries.RecoveredEntry)
            connection.execute(
                "INSERT INTO recovered VALUES (?, ?, ?, ?, ?)",
                (
                    _key(body.log, body.operation, body.state, body.code),
                    body.state,
                    body.reference,
                    body.code,
                    entry.seq,
                ),
            )


class Recovery:
    """Asks and records.

    Args:
        operations_of: who asks providers in the name of a log, by its origin.
    """

    def __init__(
        self, *, ledger: Ledger, operations_of: Callable[[str], Operations], clock: Clock, settle_ms: int
    ) -> None:
        self._ledger = ledger
        self._operations_of = operations_of
        self._clock = clock
        self._settle_ms = settle_ms
        self._absent_ms: dict[bytes, int] = {}

    async def ask(
        self, log: LogId, origin: str, lost: Sequence[LostOperation], accounts: Mapping[str, str]
    ) -> tuple[Recovered, ...]:
        """One round over the operations of the lost log; what is settled already is told as it was recorded.

        Args:
            accounts: whom the lost box asked, by provider, as its log proves.
        """
        operations = self._operations_of(origin)
        found = []
        for each in lost:
            there, here = accounts.get(each.provider), operations.providers.accounts.get(each.provider)
            told = await self._one(log, origin, each, operations, _doubt(there, here))
            found.append(replace(told, account_lost=there, account_here=here))
        return tuple(found)

    async def _one(
        self, log: LogId, origin: str, lost: LostOperation, operations: Operations, doubt: str | None
    ) -> Recovered:
        key = _key(log, lost.name)
        known = await self._ledger.read(lambda connection: _settled(connection, key, lost))
        if known is not None:
            return known
        if lost.is_in_device:
            return Recovered(operation=lost, state="in_device", reference=lost.known)
        if lost.operation is None:
            return Recovered(operation=lost, state="unknown_kind")
        if lost.operation.provider not in operations.providers:
            return Recovered(operation=lost, state="provider_missing")
        found = await operations.find(lost.operation, since_ms=lost.prepared_ms - _MARGIN_MS, known=lost.known)
        match found:
            case port.Found(answer=port.Confirmed() | port.PartlyConfirmed() as done):
                taken = replace(lost, money=done.amount)
                return await self._record(log, origin, taken, "confirmed", done.provider_reference, None)
            case port.Found(answer=port.Declined(basis=port.Basis.OWN_LOG) as no):
                return await self._record(log, origin, lost, _UNKNOWN, no.provider_reference, "parcel_may_be_older")
            case port.Found(answer=port.Declined(basis=port.Basis.ABSENCE) as no) if doubt is not None:
                return await self._record(log, origin, lost, _UNKNOWN, no.provider_reference, doubt)
            case port.Found(answer=port.Declined() as no):
                return await self._record(log, origin, lost, "rejected", no.provider_reference, no.code)
            case port.Found(answer=port.AcceptedOffline() as accepted):
                return Recovered(operation=lost, state="in_device", reference=accepted.provider_reference)
            case port.Absent() if doubt is not None:  # a second listing would prove nothing either
                return await self._record(log, origin, lost, _UNKNOWN, None, doubt)
            case port.Absent() if found.as_of_ms - self._absent_ms.setdefault(key, found.as_of_ms) >= self._settle_ms:
                return await self._record(log, origin, lost, "absent", None, None)
            case port.Unknown():
                return Recovered(operation=lost, state="ask_again", code=found.reason)
            case _:
                return Recovered(operation=lost, state="ask_again", code="not_seen_yet")

    async def _record(
        self, log: LogId, origin: str, lost: LostOperation, state: str, reference: str | None, code: str | None
    ) -> Recovered:
        key = _key(log, lost.name, state, code)
        if state == _UNKNOWN:
            known = await self._ledger.read(lambda connection: _settled(connection, key, lost))
            if known is not None:
                return known
        body = escrow_entries.RecoveredEntry(
            log=log,
            code=code,
            kind=lost.kind,
            state=state,
            amount=lost.money.amount_minor,
            origin=origin,
            payment=lost.payment.octets,
            currency=lost.money.currency,
            provider=lost.provider,
            operation=lost.name,
            reference=reference,
        )
        draft = Draft(
            kind=escrow_entries.ESCROW_RECOVERED,
            actor=_ACTOR,
            time_ms=self._clock.now_ms(),
            body=cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=(bytes,))),
        )
        guard = KeysUnused(table="recovered", keys=(key,), code="recovered_before")
        try:
            (recorded,) = await self._ledger.append([draft], guard, purpose=Purpose.OUTCOME)
        except Rejected:  # somebody asked at the same time, and was faster
            known = await self._ledger.read(lambda connection: _settled(connection, key, lost))
            if known is None:
                raise
            return known
        return Recovered(operation=lost, state=state, reference=reference, code=code, seq=recorded.seq)


def _settled(connection: sqlite3.Connection, key: bytes, lost: LostOperation) -> Recovered | None:
    row = connection.execute("SELECT state, reference, code, seq FROM recovered WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    return Recovered(operation=lost, state=row[0], reference=row[1], code=row[2], seq=row[3])


def _doubt(there: str | None, here: str | None) -> str | None:
    """Why it proves nothing that something is not found here; None: it is the account that the lost box asked."""
    if there is None or here is None:
        return "account_unknown"
    return None if there == here else "account_other"


def _key(log: bytes, operation: str, state: str = "", reason: str | None = None) -> bytes:
    return log + operation.encode() + (f"\0{reason}".encode() if state == _UNKNOWN else b"")
