"""One look at a day: both sides on disk in one order, compared in one pass, summed up.

Owns a temporary database that SQLite keeps in a file of its own once it grows; it is gone with the process. Memory is
bounded by one page and by the breaks, of which there are at most `BREAKS_MAX`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.model.errors import Unavailable
from appliance.model.ids import OperationId
from appliance.model.invariants import ensure
from appliance.model.reconciling import Move
from appliance.payment.matching import CARD_MONEY, Claim, Finding, Rules, Standing, compare
from appliance.payment.reconcile_records import line_facts, line_of
from appliance.ports.statement import Line, LineKind
from appliance.wire.reconcile_entries import BreakFacts, DifferenceFacts, HereFacts, LineFacts, ThereFacts

DoneT = TypeVar("DoneT")

BREAKS_MAX: Final = 5_000
LINES_MAX: Final = 100_000
_NAMES: Final = {
    LineKind.CHARGE: ("charges", "charged"),
    LineKind.REFUND: ("refunds", "refunded"),
    LineKind.DISPUTE: ("disputes", "disputed"),
    LineKind.REFUND_FAILED: ("disputes", "disputed"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a look found; `breaks` by subject and type, without what was accepted."""

    here: HereFacts
    there: ThereFacts
    differences: tuple[DifferenceFacts, ...]
    breaks: Mapping[tuple[str, str], BreakFacts]
    digest: bytes


@dataclass(slots=True)
class _Sums:
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, amount: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount


class SheetThread:
    """A sheet on a thread of its own: reading and sorting a day may not hold up a sale. Close it in any case."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reconcile")
        self._sheet: ComparisonSheet | None = None

    async def run(self, work: Callable[[ComparisonSheet], DoneT]) -> DoneT:
        """What `work` comes to, after everything that was asked before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def close(self) -> None:
        """Let it go once what runs has ended."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[ComparisonSheet], DoneT]) -> DoneT:
        if self._sheet is None:
            self._sheet = ComparisonSheet()
        return work(self._sheet)

    def _close(self) -> None:
        if self._sheet is not None:
            self._sheet.close()


class ComparisonSheet:
    """Fill it with both sides, then compare once."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE lines (operation TEXT NOT NULL, created INTEGER NOT NULL, id TEXT NOT NULL UNIQUE,"
            " standing TEXT NOT NULL, facts BLOB NOT NULL, PRIMARY KEY (operation, created, id)) WITHOUT ROWID"
        )
        self._database.execute(
            "CREATE TABLE moves (operation TEXT PRIMARY KEY, payment BLOB, amount INTEGER, currency TEXT, day TEXT)"
            " WITHOUT ROWID"
        )
        self._count = 0

    def add_lines(self, lines: Sequence[tuple[Line, str, OperationId | None, Standing]]) -> None:
        """Lines with their shop day, operation and standing; one that was there before is the same line.

        Raises:
            Unavailable: `statement_too_long`.
        """
        self._count += len(lines)
        if self._count > LINES_MAX:
            raise Unavailable("statement_too_long", f"expected at most {LINES_MAX} lines in one day")
        self._database.executemany(
            "INSERT OR IGNORE INTO lines VALUES (?, ?, ?, ?, ?)",
            [
                (operation or "", line.created_ms, line.line_id, standing, _encode(line_facts(line, day)))
                for line, day, operation, standing in lines
            ],
        )

    def add_moves(self, moves: Sequence[Move]) -> None:
        """Movements by the log."""
        self._database.executemany(
            "INSERT INTO moves VALUES (?, ?, ?, ?, ?)",
            [(move.operation, move.payment, move.amount_minor, move.currency, move.day) for move in moves],
        )

    def compare(self, rules: Rules, since: Mapping[str, str], accepted: frozenset[tuple[str, str]]) -> Compared:
        """One pass over both sides.

        Args:
            since: for a subject that differed before, since which day.
            accepted: subject and type of what the operator closed.
        Raises:
            Unavailable: `reconcile_too_many_breaks`.
        """
        here, there, digest = _Sums(), _Sums(), hashlib.sha256()
        differences: dict[str, tuple[int, int]] = {}
        breaks: dict[tuple[str, str], BreakFacts] = {}
        for found in compare(self._moves(rules, here), self._claims(rules, there, digest), rules):
            why = found.why if found.type is None else found.type.value
            count, amount = differences.get(why, (0, 0))
            differences[why] = (count + 1, amount + found.difference_minor)
            facts = None if found.type is None else break_of(found, since.get(found.subject, rules.day))
            if facts is not None and (facts.subject, facts.type) not in accepted:
                breaks[facts.subject, facts.type] = facts
            if len(breaks) > BREAKS_MAX:
                raise Unavailable(
                    "reconcile_too_many_breaks",
                    f"more than {BREAKS_MAX} breaks: is the provider's key that of this shop's account?",
                )
        listed = tuple(
            DifferenceFacts(why=why, count=count, amount=amount) for why, (count, amount) in sorted(differences.items())
        )
        recorded = here.counts.get("charged", 0) - here.counts.get("refunded", 0)
        ensure(
            recorded + sum(each.amount for each in listed) == there.counts.get("gross", 0),
            "what was recorded and what differs add up to the statement",
        )
        return Compared(
            here=HereFacts(**here.counts),
            there=ThereFacts(**there.counts),
            differences=listed,
            breaks=breaks,
            digest=digest.digest(),
        )

    def close(self) -> None:
        """Let it go."""
        self._database.close()

    def _moves(self, rules: Rules, sums: _Sums) -> Iterator[Move]:
        for operation, payment, amount, currency, day in self._database.execute(
            "SELECT operation, payment, amount, currency, day FROM moves ORDER BY operation"
        ):
            if day == rules.day:
                count, total = _NAMES[LineKind.CHARGE if amount > 0 else LineKind.REFUND]
                sums.add(count, 1)
                sums.add(total, abs(amount))
            yield Move(
                operation=OperationId(operation), payment=payment, amount_minor=amount, currency=currency, day=day
            )

    def _claims(self, rules: Rules, sums: _Sums, digest: hashlib._Hash) -> Iterator[Claim]:
        for operation, standing, octets in self._database.execute(
            "SELECT operation, standing, facts FROM lines ORDER BY operation, created, id"
        ):
            digest.update(octets)
            facts = _decode(octets)
            line = line_of(facts)
            if facts.day == rules.day:
                _count(sums, line, rules.currency)
            if line.kind in CARD_MONEY:
                yield Claim(
                    line=line,
                    operation=OperationId(operation) if operation else None,
                    standing=Standing(standing),
                    day=facts.day,
                )


def break_of(found: Finding, since: str) -> BreakFacts:
    """What an entry says of it."""
    ensure(found.type is not None, "only what differs is a break")
    move, claim = found.move, found.claim
    return BreakFacts(
        line=None if claim is None else line_facts(claim.line, claim.day),
        type=str(found.type),
        owner=found.owner,
        since=since,
        payment=None if move is None else move.payment,
        subject=found.subject,
        currency=None if move is None else move.currency,
        expected=None if move is None else move.amount_minor,
    )


def _count(sums: _Sums, line: Line, currency: str) -> None:
    if line.currency != currency:
        sums.add("foreign", 1)
        return
    if line.kind not in CARD_MONEY:
        sums.add("payout" if line.kind is LineKind.PAYOUT else "other", line.net_minor)
        sums.add("others", 1)
        return
    count, total = _NAMES[line.kind]
    sums.add(count, 1)
    sums.add(total, line.gross_minor if line.kind is LineKind.CHARGE else -line.gross_minor)
    sums.add("gross", line.gross_minor)
    sums.add("fee", line.fee_minor)
    sums.add("net", line.net_minor)


def _encode(facts: LineFacts) -> bytes:
    return cbor.encode_ordered(msgspec.to_builtins(facts))


def _decode(octets: bytes) -> LineFacts:
    return msgspec.convert(cbor.decode_ours(octets), LineFacts)
