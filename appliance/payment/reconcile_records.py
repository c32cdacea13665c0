"""Reads of reconciliation's tables, and what the log knows of the operation behind a provider's line."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.ledger import entry as ledger_entry
from appliance.model.errors import Rejected
from appliance.model.ids import OperationId, ProviderReference
from appliance.model.money import Money
from appliance.model.operation import OPEN, OperationKind, OperationState
from appliance.model.payment import PaymentState
from appliance.model.reconciling import Move
from appliance.model.shop_day import ShopDay
from appliance.payment.matching import Standing
from appliance.ports.statement import Line, LineId, LineKind
from appliance.wire.reconcile_entries import BreakFacts, LineFacts, ReconciledEntry, ReconciledMoreEntry

PAGE_ROWS: Final = 500
_KINDS: Final = {
    LineKind.CHARGE: (OperationKind.AUTHORISE, OperationKind.CAPTURE),
    LineKind.REFUND: (OperationKind.REFUND, OperationKind.REVERSE),
}
_ShapeT = TypeVar("_ShapeT", bound=msgspec.Struct)
_MOVES: Final = (
    "SELECT operation, payment, amount, currency, coalesce(taken, :day) FROM reconcile_moves WHERE provider = :provider"
    " AND operation > :after"
    " AND ((taken IS NULL AND at_ms < :ends AND seq <= :last)"
    " OR (taken <= :day AND (settled IS NULL OR settled = :day))) ORDER BY operation LIMIT :limit"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which movements a look at `day` is about: entries up to `last`."""

    provider: str
    log_origin: str
    day: ShopDay
    last: int

    @property
    def values(self) -> dict[str, object]:
        return {"day": str(self.day), "ends": self.day.ends_ms, "last": self.last, "provider": self.provider}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBreak:
    """A break as its entry has it, that entry, and whether it is open, or closed by the operator."""

    facts: BreakFacts
    entry: int
    is_open: bool = True
    is_accepted: bool = False


def newest_day(connection: sqlite3.Connection, provider: str) -> tuple[str, int] | None:
    """The day that was reconciled last, and its entry."""
    row = connection.execute(
        "SELECT day, seq FROM reconcile_days WHERE provider = ? ORDER BY day DESC LIMIT 1", (provider,)
    ).fetchone()
    return None if row is None else (str(row[0]), int(row[1]))


def day_entry(connection: sqlite3.Connection, provider: str, day: str) -> int | None:
    """The newest entry about that day; None when there is none."""
    row = connection.execute(
        "SELECT seq FROM reconcile_days WHERE provider = ? AND day = ?", (provider, day)
    ).fetchone()
    return None if row is None else int(row[0])


def first_move_ms(connection: sqlite3.Connection, provider: str) -> int | None:
    """When card money first moved, of what is still looked for."""
    (first,) = connection.execute("SELECT min(at_ms) FROM reconcile_moves WHERE provider = ?", (provider,)).fetchone()
    return None if first is None else int(first)


def read_reconciled(connection: sqlite3.Connection, seq: int) -> ReconciledEntry:
    """An entry of reconciliation, with the breaks that stand in those behind it. Raises Rejected `entry_pruned`."""
    found = _body(connection, seq, ReconciledEntry)
    for following in range(seq + 1, seq + 1 + found.more):
        more = _body(connection, following, ReconciledMoreEntry)
        found = msgspec.structs.replace(found, opened=found.opened + more.opened, closed=found.closed + more.closed)
    return found


def reconciled_at(connection: sqlite3.Connection, day: str) -> tuple[ReconciledEntry, ...]:
    """That day beside each provider's statement; the last one that was compared where it was not, or not yet."""
    rows = connection.execute(
        "SELECT provider, max(day), max(CASE WHEN day = ? THEN day END) FROM reconcile_days GROUP BY provider", (day,)
    ).fetchall()
    entries = [day_entry(connection, provider, this or newest) for provider, newest, this in rows]
    return tuple(_body(connection, seq, ReconciledEntry) for seq in entries if seq is not None)


def open_breaks(
    connection: sqlite3.Connection, provider: str, limit: int, after: tuple[str, str] = ("", "")
) -> list[KnownBreak]:
    """The open ones, by subject; for the next page give the last one's subject and type."""
    rows = connection.execute(
        "SELECT facts, opened FROM reconcile_breaks WHERE provider = ? AND closed IS NULL AND (subject, type) > (?, ?)"
        " ORDER BY subject, type LIMIT ?",
        (provider, *after, limit),
    )
    return [KnownBreak(facts=_facts(facts), entry=opened) for facts, opened in rows]


def open_by_type(connection: sqlite3.Connection, provider: str) -> dict[str, int]:
    """How many of each type are open."""
    return dict(
        connection.execute(
            "SELECT type, count(*) FROM reconcile_breaks WHERE provider = ? AND closed IS NULL GROUP BY type",
            (provider,),
        )
    )


def known_breaks(connection: sqlite3.Connection, scope: Scope, after: tuple[str, str]) -> list[KnownBreak]:
    """A page of those that are open, or were closed since the day was looked at first.

    Those that were accepted stay known as long as another one is open about the same movement.
    """
    rows = connection.execute(
        "SELECT facts, opened, closed IS NULL, accepted FROM reconcile_breaks WHERE provider = :provider"
        " AND (subject, type) > (:subject, :kind) AND (closed IS NULL OR closed_day = :day"
        " OR (accepted = 1 AND subject IN (SELECT operation FROM reconcile_moves WHERE settled IS NULL)))"
        " ORDER BY subject, type LIMIT :limit",
        {**scope.values, "subject": after[0], "kind": after[1], "limit": PAGE_ROWS},
    )
    return [
        KnownBreak(facts=_facts(facts), entry=opened, is_open=bool(is_open), is_accepted=bool(accepted))
        for facts, opened, is_open, accepted in rows
    ]


def opened_by(connection: sqlite3.Connection, provider: str, subject: str, kind: str) -> int | None:
    """The entry that opened this very break; None where it is not open."""
    row = connection.execute(
        "SELECT opened FROM reconcile_breaks WHERE provider = ? AND subject = ? AND type = ? AND closed IS NULL",
        (provider, subject, kind),
    ).fetchone()
    return None if row is None else int(row[0])


def moves(connection: sqlite3.Connection, scope: Scope, after: str) -> list[Move]:
    """A page of the movements that the look is about, by operation."""
    rows = connection.execute(_MOVES, {**scope.values, "after": after, "limit": PAGE_ROWS})
    return [
        Move(operation=OperationId(operation), payment=payment, amount_minor=amount, currency=currency, day=day)
        for operation, payment, amount, currency, day in rows
    ]


def resolve(
    connection: sqlite3.Connection, scope: Scope, lines: Sequence[Line]
) -> list[tuple[OperationId | None, Standing]]:
    """Which operation each line belongs to, and how that stands; None where it is nobody's of this log."""
    return [_resolve(connection, scope, line) for line in lines]


def looked_for(connection: sqlite3.Connection, scope: Scope, lines: Sequence[Line]) -> list[Line]:
    """Of lines from before the day, those of movements that the look is about."""
    named = [(line, _resolve(connection, scope, line)[0]) for line in lines]
    return [line for line, operation in named if operation is not None and _is_looked_for(connection, scope, operation)]


def _is_looked_for(connection: sqlite3.Connection, scope: Scope, operation: OperationId) -> bool:
    """Whether `_MOVES` has it."""
    row = connection.execute(
        "SELECT taken, settled, at_ms, seq FROM reconcile_moves WHERE operation = ?", (operation,)
    ).fetchone()
    if row is None:
        return False
    taken, settled, at_ms, seq = row
    if taken is None:
        return bool(at_ms < scope.day.ends_ms and seq <= scope.last)
    return taken <= str(scope.day) and settled in (None, str(scope.day))


def _resolve(connection: sqlite3.Connection, scope: Scope, line: Line) -> tuple[OperationId | None, Standing]:
    kinds = _KINDS.get(line.kind)
    if kinds is None:
        return None, Standing.NONE
    if line.reference is not None:
        # Attempts at one capture share the payment's name: the one that was confirmed moved the money.
        row = connection.execute(
            "SELECT id, state FROM operations WHERE reference = ? AND kind IN (?, ?)"
            " ORDER BY state = 'confirmed' DESC, intent DESC",
            (line.reference, *kinds),
        ).fetchone()
        if row is not None:
            return OperationId(row[0]), _standing(connection, scope, row[0], row[1])
    if line.log_origin is not None and line.log_origin != scope.log_origin:
        return None, Standing.ELSEWHERE
    if line.operation_id is None or line.log_origin is None:
        return None, Standing.NONE
    row = connection.execute(
        "SELECT o.state, o.kind, p.state FROM operations o JOIN payments p ON p.key = o.payment WHERE o.id = ?",
        (line.operation_id,),
    ).fetchone()
    if row is None:
        return None, Standing.NEVER  # it bears our names, and our records do not know them
    state, kind, payment = OperationState(row[0]), OperationKind(row[1]), PaymentState(row[2])
    if kind is OperationKind.OFFER:
        return _taken(connection, scope, line.operation_id, payment)
    if kind is OperationKind.RESERVE:
        # What is held is taken by a capture, which has no name of its own there.
        return None, Standing.CHECKED if payment is PaymentState.CHECKING else Standing.NEVER
    if state in OPEN:
        return None, Standing.CHECKED
    return None, Standing.OTHER if state is OperationState.CONFIRMED else Standing.NEVER


def _taken(
    connection: sqlite3.Connection, scope: Scope, offer: str, payment: PaymentState
) -> tuple[OperationId | None, Standing]:
    """What took the money of an offer: the provider names it, and its own operation, by the offer."""
    row = connection.execute(
        "SELECT id, state FROM operations WHERE payment = (SELECT payment FROM operations WHERE id = ?) AND kind = ?"
        " ORDER BY state = 'confirmed' DESC, intent DESC",
        (offer, OperationKind.AUTHORISE),
    ).fetchone()
    if row is None:
        return None, Standing.CHECKED if payment is PaymentState.CHECKING else Standing.NEVER
    return OperationId(row[0]), _standing(connection, scope, row[0], row[1])


def _standing(connection: sqlite3.Connection, scope: Scope, operation: str, state: str) -> Standing:
    if OperationState(state) is not OperationState.CONFIRMED:
        return Standing.CHECKED if OperationState(state) in OPEN else Standing.NEVER
    row = connection.execute(
        "SELECT taken, at_ms, seq FROM reconcile_moves WHERE operation = ?", (operation,)
    ).fetchone()
    is_later = row is not None and row[0] is None and (row[1] >= scope.day.ends_ms or row[2] > scope.last)
    return Standing.CHECKED if is_later else Standing.CONFIRMED


def line_facts(line: Line, day: str) -> LineFacts:
    """A line as a break keeps it."""
    return LineFacts(
        id=line.line_id,
        day=day,
        fee=line.fee_minor,
        net=line.net_minor,
        kind=line.kind,
        gross=line.gross_minor,
        origin=line.log_origin,
        currency=line.currency,
        operation=line.operation_id,
        reference=line.reference,
        created_ms=line.created_ms,
        available_ms=line.available_ms,
        converted=None if line.converted_from is None else line.converted_from.amount_minor,
        converted_from=None if line.converted_from is None else line.converted_from.currency,
    )


def line_of(facts: LineFacts) -> Line:
    """The line back."""
    return Line(
        line_id=LineId(facts.id),
        kind=LineKind(facts.kind),
        reference=None if facts.reference is None else ProviderReference(facts.reference),
        log_origin=facts.origin,
        operation_id=None if facts.operation is None else OperationId(facts.operation),
        gross_minor=facts.gross,
        fee_minor=facts.fee,
        net_minor=facts.net,
        currency=facts.currency,
        created_ms=facts.created_ms,
        available_ms=facts.available_ms,
        converted_from=_converted(facts),
    )


def _converted(facts: LineFacts) -> Money | None:
    if facts.converted is None or facts.converted_from is None:
        return None
    return Money(facts.converted, facts.converted_from)


def _facts(octets: bytes) -> BreakFacts:
    return msgspec.convert(cbor.decode_ours(octets), BreakFacts)


def _body(connection: sqlite3.Connection, seq: int, shape: type[_ShapeT]) -> _ShapeT:
    row = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    if row is None or row[0] is None:
        raise Rejected("entry_pruned", f"the body of entry {seq} was removed; an export or a publication has it")
    return msgspec.convert(cbor.decode_ours(ledger_entry.decode(row[0]).body), shape)
