"""The shop's card money beside the provider's statement: one look at each shop day, in order, each an entry.

* A day is looked at once it ended and the provider had its time to list it. A look reads the whole window or is no
  look; killed anywhere, it begins anew, because its result is one commit.
* A look at the newest day again writes only if something differs from its entry. Older days are never looked at again:
  what came late stands in the day in which it came, and names the entry of the break that it closes.
* Moves no money and never changes a payment: people do, and the next look sees it.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import BREAKS_PER_ENTRY_MAX, BREAKS_SHOWN_MAX
from appliance.model.reconciling import BreakType, FeeRule
from appliance.model.shop_day import ShopCalendar, ShopDay
from appliance.payment.comparison import ComparisonSheet, SheetThread
from appliance.payment.matching import Rules
from appliance.payment.reconcile_guards import RECONCILED_MEANWHILE, BreakIsOpen, DayStands
from appliance.payment.reconcile_records import (
    PAGE_ROWS,
    KnownBreak,
    Scope,
    day_entry,
    first_move_ms,
    known_breaks,
    line_of,
    looked_for,
    moves,
    newest_day,
    open_breaks,
    open_by_type,
    opened_by,
    read_reconciled,
    resolve,
)
from appliance.ports.clock import Clock
from appliance.ports.statement import Line, PageMark, Statement, Window
from appliance.runtime.log import Log
from appliance.wire.answers import ReconcileAnswer
from appliance.wire.reconcile_entries import (
    BREAK_ACCEPTED,
    RECONCILED,
    RECONCILED_MORE,
    BreakAcceptedEntry,
    ClosedFacts,
    ReconciledEntry,
    ReconciledMoreEntry,
)

_RACES_MAX: Final = 3


class Reconciliation:
    """The days of one provider."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        statement: Statement,
        clock: Clock,
        log: Log,
        calendar: ShopCalendar,
        provider: str,
        log_origin: str,
        currency: str,
        fee: FeeRule,
    ) -> None:
        self._ledger = ledger
        self._statement = statement
        self._clock = clock
        self._log = log
        self._calendar = calendar
        self._provider = provider
        self._log_origin = log_origin
        self._currency = currency
        self._fee = fee

    async def due(self) -> ShopDay | None:
        """The next day that ended and was not looked at; None while there is none."""
        day = await self._next()
        if day is None or self._clock.now_ms() < day.ends_ms + self._statement.settle_ms:
            return None
        return day

    async def run_due(self) -> list[str]:
        """Look at every day that is due; those that were."""
        days = []
        while (day := await self.due()) is not None:
            await self._record(day)
            days.append(str(day))
        return days

    async def open_by_type(self) -> dict[str, int]:
        """How many breaks of each type are open."""
        return await self._ledger.read(partial(open_by_type, provider=self._provider))

    async def compared_until(self) -> str | None:
        """The newest day that was compared."""
        newest = await self._ledger.read(lambda connection: newest_day(connection, self._provider))
        return None if newest is None else newest[0]

    async def reconcile(self, wanted: str | None) -> ReconcileAnswer:
        """Look at what is due, then tell of the day `wanted`; without it of the newest compared, or of the first.

        A day whose list is not final is looked at as it stands and nothing is written.

        Raises:
            Rejected: `day_malformed`, `day_unknown`: not a date, or before the first card payment.
            Unavailable: the statement could not be read; nothing was written.
        """
        asked = None if wanted is None else self._calendar.day(_date(wanted))
        written = await self.run_due()
        newest = await self._ledger.read(lambda connection: newest_day(connection, self._provider))
        following = await self._next()
        if asked is None:
            asked = following if newest is None else self._calendar.day(_date(newest[0]))
            if asked is None:
                raise Rejected(
                    "day_unknown", f"{self._provider} never confirmed a payment: there is nothing to compare"
                )
        if newest is not None and str(asked) <= newest[0]:
            is_new = str(asked) in written
            if str(asked) == newest[0] and not is_new:
                is_new = await self._record(asked)
            return await self._told(asked, is_new=is_new)
        if following is None or str(asked) != str(following) or self._clock.now_ms() < asked.begins_ms:
            raise Rejected(
                "day_unknown", f"{asked} cannot be compared; the next day to look at is {following or 'not yet known'}"
            )
        _, entry = await self._look_at(asked)
        return _so_far(entry)

    async def is_open(self, kind: str, subject: str) -> bool:
        """Whether this very break is open."""
        found = await self._ledger.read(lambda connection: opened_by(connection, self._provider, subject, kind))
        return found is not None

    async def accept(self, kind: str, subject: str, reason: str) -> int:
        """The operator closes a break for good; returns the entry.

        Raises:
            Rejected: `break_unknown`: no such break is open.
        """
        entry = await self._ledger.read(lambda connection: opened_by(connection, self._provider, subject, kind))
        guard = BreakIsOpen(provider=self._provider, subject=subject, type=kind, entry=entry)
        body = BreakAcceptedEntry(
            type=kind, entry=-1 if entry is None else entry, reason=reason, subject=subject, provider=self._provider
        )
        draft = self._draft(BREAK_ACCEPTED, "operator", body)
        (recorded,) = await self._ledger.append([draft], guard, purpose=Purpose.OUTCOME)
        return recorded.seq

    async def _next(self) -> ShopDay | None:
        newest, first_ms = await self._ledger.read(
            lambda connection: (newest_day(connection, self._provider), first_move_ms(connection, self._provider))
        )
        if newest is not None:
            return self._calendar.next(self._calendar.day(_date(newest[0])))
        return None if first_ms is None else self._calendar.day_of(first_ms)

    async def _record(self, day: ShopDay) -> bool:
        """Look, and write what the log does not say yet; whether anything was written."""

        async def attempt() -> bool:
            standing, entry = await self._look_at(day)
            if standing is not None and _is_same(standing[1], entry):
                return False
            drafts = [self._draft(kind, "box", part) for kind, part in _parts(entry)]
            guard = DayStands(provider=self._provider, day=str(day), entry=None if standing is None else standing[0])
            recorded = await self._ledger.append(drafts, guard, purpose=Purpose.OUTCOME)
            self._log.info(
                "day.reconciled",
                provider=self._provider,
                day=str(day),
                entry=recorded[0].seq,
                opened=len(entry.opened),
                closed=len(entry.closed),
                open=entry.open_count,
            )
            return True

        busy = Unavailable("reconcile_busy", "another look at the day came between; ask again")
        return await look_again(attempt, after=RECONCILED_MEANWHILE, times_max=_RACES_MAX, busy=busy)

    async def _look_at(self, day: ShopDay) -> tuple[tuple[int, ReconciledEntry] | None, ReconciledEntry]:
        """The day's entry so far, and what it would be now; writes nothing."""
        scope = Scope(provider=self._provider, log_origin=self._log_origin, day=day, last=self._ledger.head.size - 1)
        standing = await self._ledger.read(lambda connection: _standing(connection, self._provider, str(day)))
        known = await self._known(scope)
        since: dict[str, str] = {}
        for each in known.values():
            since[each.facts.subject] = min(each.facts.since, since.get(each.facts.subject, each.facts.since))
        rules = Rules(day=str(day), currency=self._currency, fee=self._fee)
        accepted = frozenset(name for name, each in known.items() if each.is_accepted)
        with closing(SheetThread()) as sheet:
            await self._fill(sheet, scope, known)
            compared = await sheet.run(lambda filled: filled.compare(rules, since, accepted))
        open_now = {name: each for name, each in known.items() if each.is_open}
        entry = ReconciledEntry(
            day=str(day),
            here=compared.here,
            last=scope.last,
            there=compared.there,
            closed=tuple(_closed(each) for name, each in open_now.items() if name not in compared.breaks),
            digest=compared.digest,
            number=1 if standing is None else standing[1].number + 1,
            opened=tuple(facts for name, facts in sorted(compared.breaks.items()) if name not in open_now),
            ends_ms=day.ends_ms,
            currency=self._currency,
            provider=self._provider,
            begins_ms=day.begins_ms,
            open_count=len(compared.breaks),
            differences=compared.differences,
        )
        return standing, entry

    async def _known(self, scope: Scope) -> dict[tuple[str, str], KnownBreak]:
        known: dict[tuple[str, str], KnownBreak] = {}
        after = ("", "")
        while page := await self._ledger.read(partial(known_breaks, scope=scope, after=after)):
            after = (page[-1].facts.subject, page[-1].facts.type)
            known.update(((each.facts.subject, each.facts.type), each) for each in page)
        return known

    async def _fill(self, sheet: SheetThread, scope: Scope, known: dict[tuple[str, str], KnownBreak]) -> None:
        """Both sides, page by page: the day's lines, those of earlier days that differ still, and our movements."""
        carried = [
            (line_of(each.facts.line), each.facts.line.day)
            for each in known.values()
            if each.facts.line is not None and each.facts.line.day != str(scope.day)
        ]
        # Before the pages: a line that was told of in its own day is not counted again in this one.
        for start in range(0, len(carried), PAGE_ROWS):
            await self._add(sheet, scope, carried[start : start + PAGE_ROWS])
        mark: PageMark | None = None
        window = Window(begins_ms=scope.day.begins_ms, ends_ms=scope.day.ends_ms)
        while True:
            page = await self._statement.page(window, mark)
            await self._add_page(sheet, scope, page.lines)
            if page.following is None:
                break
            mark = page.following
        after = ""
        while found := await self._ledger.read(partial(moves, scope=scope, after=after)):
            after = found[-1].operation
            await sheet.run(partial(ComparisonSheet.add_moves, moves=found))

    async def _add_page(self, sheet: SheetThread, scope: Scope, lines: Sequence[Line]) -> None:
        """Lines of the day; of those before it only what is looked for still, which counts as of this day."""
        fresh = [(line, self._day_of(line)) for line in lines if line.created_ms >= scope.day.begins_ms]
        older = [line for line in lines if line.created_ms < scope.day.begins_ms]
        held = await self._ledger.read(lambda connection: looked_for(connection, scope, older))
        await self._add(sheet, scope, [*fresh, *((line, str(scope.day)) for line in held)])

    async def _add(self, sheet: SheetThread, scope: Scope, lines: Sequence[tuple[Line, str]]) -> None:
        resolved = await self._ledger.read(lambda connection: resolve(connection, scope, [line for line, _ in lines]))
        belonging = [(line, day, *belongs) for (line, day), belongs in zip(lines, resolved, strict=True)]
        await sheet.run(lambda filled: filled.add_lines(belonging))

    def _day_of(self, line: Line) -> str:
        return str(self._calendar.day_of(line.created_ms))

    async def _told(self, day: ShopDay, *, is_new: bool) -> ReconcileAnswer:
        """What the log says of a day, and every break that is open now."""

        def read(connection: sqlite3.Connection) -> ReconcileAnswer:
            standing = _standing(connection, self._provider, str(day))
            if standing is None:
                raise Rejected("day_unknown", f"the day {day} lies before the first one that was reconciled")
            return ReconcileAnswer(
                day=standing[1],
                seq=standing[0],
                breaks=tuple(each.facts for each in open_breaks(connection, self._provider, BREAKS_SHOWN_MAX)),
                is_new=is_new,
                open_count=sum(open_by_type(connection, self._provider).values()),
            )

        return await self._ledger.read(read)

    def _draft(self, kind: str, actor: str, body: msgspec.Struct) -> Draft:
        encoded = cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=(bytes,)))
        return Draft(kind=kind, actor=actor, time_ms=self._clock.now_ms(), body=encoded)


def _standing(connection: sqlite3.Connection, provider: str, day: str) -> tuple[int, ReconciledEntry] | None:
    """The newest entry about a day."""
    seq = day_entry(connection, provider, day)
    return None if seq is None else (seq, read_reconciled(connection, seq))


def _so_far(entry: ReconciledEntry) -> ReconcileAnswer:
    """A day whose list is not final: what one side has of it already is on its way, and no break yet."""
    opened = tuple(each for each in entry.opened if each.type != BreakType.LATE or each.since != entry.day)
    on_its_way = len(entry.opened) - len(opened)
    day = msgspec.structs.replace(entry, opened=opened, open_count=entry.open_count - on_its_way)
    return ReconcileAnswer(day=day, breaks=opened[:BREAKS_SHOWN_MAX], open_count=day.open_count, on_its_way=on_its_way)


def _is_same(before: ReconciledEntry, now: ReconciledEntry) -> bool:
    """Whether another look found nothing else than the last one."""
    if now.opened or now.closed:
        return False
    names = ("here", "there", "digest", "differences", "open_count")
    return all(getattr(before, name) == getattr(now, name) for name in names)


def _closed(each: KnownBreak) -> ClosedFacts:
    return ClosedFacts(type=each.facts.type, entry=each.entry, since=each.facts.since, subject=each.facts.subject)


def _parts(entry: ReconciledEntry) -> list[tuple[str, msgspec.Struct]]:
    """The entry, and those behind it that hold the breaks for which it has no room."""
    count = BREAKS_PER_ENTRY_MAX
    length = max(len(entry.opened), len(entry.closed))
    more = [
        ReconciledMoreEntry(
            day=entry.day,
            closed=entry.closed[start : start + count],
            opened=entry.opened[start : start + count],
            provider=entry.provider,
        )
        for start in range(count, length, count)
    ]
    first = msgspec.structs.replace(entry, more=len(more), opened=entry.opened[:count], closed=entry.closed[:count])
    return [(RECONCILED, first), *((RECONCILED_MORE, each) for each in more)]


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise Rejected("day_malformed", "expected a date such as 2026-11-26") from None
