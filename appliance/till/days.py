"""The shop's days: each is closed once, by an operator or by itself at the cut-off, in one entry with its report.

* A day ends where its entry stands in the log. What comes later is the next day's, also an outcome of a payment that
  began before: the next day's entry names it with the day and the entry that it belongs to.
* A day's name is the first date that is not closed yet, counted from the day of its first fact: shops that close at ten
  and sell on do so in tomorrow's name. A clock that was wrong for a while costs a wrong name, never an amount.
* A day without a fact is not closed: there would be nothing to say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import DRAWERS_MAX
from appliance.model.shop_day import ShopCalendar, ShopDay
from appliance.model.till import Scope
from appliance.payment.reconcile_records import reconciled_at
from appliance.payment.respond import receipt_in_time
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.till.entries import read_day
from appliance.till.guards import PERIOD_CHANGED, DayUnchanged
from appliance.till.records import (
    OpenDay,
    day_entry,
    newest_day_entry,
    open_day,
    read_drawers,
    read_late,
    read_lost,
    read_open,
    read_period,
)
from appliance.wire.answers import DayAnswer
from appliance.wire.till_entries import DAY_CLOSED, DayClosedEntry

LOOK_MS_MAX: Final = 30_000
"""How often the clock is looked at: wall time may step, so one long sleep until the cut-off will not do."""
_RACES_MAX: Final = 500


class ShopDays:
    """The open day, and the way to close it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        log: Log,
        calendar: ShopCalendar,
        currency: str,
        quarantine: Callable[[], str | None],
        attested: Callable[[str], Awaitable[tuple[Draft, ...]]],
    ) -> None:
        """`attested` gives what goes into the log just before a day's close, with its name: what the box was then."""
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._calendar = calendar
        self._currency = currency
        self._quarantine = quarantine
        self._attested = attested
        self.closed_count = 0
        """Days closed since the start."""

    async def run(self) -> None:
        """A service: close each day once its cut-off has come."""
        while True:
            try:
                await self.close_due()
            except (Unavailable, OutcomeUnknown) as trouble:
                self._log.warning("day.postponed", code=trouble.code)
            now_ms = self._clock.now_ms()
            await self._clock.sleep(min(self._calendar.day_of(now_ms).ends_ms - now_ms, LOOK_MS_MAX))

    async def close_due(self) -> None:
        """Close the open day if it has ended; at the start, before anything new is sold."""
        if self._quarantine() is not None:
            return
        _, day, has_facts = await self._ledger.read(self._look)
        if has_facts and day.ends_ms <= self._clock.now_ms():
            await self._close(day, "box")

    async def standing(self) -> DayAnswer:
        """What the open day came to so far (X of the shop); writes nothing."""
        _, day, _ = await self._ledger.read(self._look)
        return await self._ledger.read(
            lambda connection: DayAnswer(
                day=self._report(connection, day), seq=None, reconciled=reconciled_at(connection, str(day))
            )
        )

    async def close(self) -> DayAnswer:
        """Close the open day for an operator; where today is closed already, or nothing happened, the last close.

        Raises:
            Rejected: `day_empty`: nothing happened, and no day was closed before.
            Unavailable: `quarantined`; `day_busy`: sales left no moment between them.
        """
        reason = self._quarantine()
        if reason is not None:
            raise Unavailable("quarantined", reason)
        _, day, has_facts = await self._ledger.read(self._look)
        if has_facts and day.begins_ms <= self._clock.now_ms():
            seq = await self._close(day, "operator")
            if seq is not None:
                return await self._closed(seq, is_new=True)
        newest = await self._ledger.read(newest_day_entry)
        if newest is None:
            raise Rejected("day_empty", "nothing was recorded yet: there is no day to close")
        return await self._closed(newest, is_new=False)

    async def _close(self, day: ShopDay, actor: str) -> int | None:
        """The entry; None where somebody else closed the day meanwhile."""
        attested = await self._attested(str(day))  # once: a TPM is slow, and sales must leave a moment between them

        async def attempt() -> int | None:
            last, still, report = await self._ledger.read(lambda connection: self._read(connection, day))
            if not still:
                return None
            body = cbor.encode_ordered(msgspec.to_builtins(report, builtin_types=(bytes,)))
            draft = Draft(kind=DAY_CLOSED, actor=actor, time_ms=self._clock.now_ms(), body=body)
            guard = DayUnchanged(day=str(day), last=last)
            *_, entry = await self._ledger.append([*attested, draft], guard, purpose=Purpose.OUTCOME)
            self.closed_count += 1
            self._log.info("day.closed", day=str(day), entry=entry.seq, by=actor)
            return entry.seq

        busy = Unavailable("day_busy", "sales left no moment between them; ask again")
        return await look_again(attempt, after=PERIOD_CHANGED, times_max=_RACES_MAX, busy=busy)

    async def _closed(self, seq: int, *, is_new: bool) -> DayAnswer:
        day = await self._ledger.read(lambda connection: read_day(connection, seq))
        reconciled = await self._ledger.read(lambda connection: reconciled_at(connection, day.day))
        receipt = await receipt_in_time(self._ledger, [seq])
        return DayAnswer(
            day=day, seq=seq, is_new=is_new, receipt=receipt, pending=receipt is None, reconciled=reconciled
        )

    def _look(self, connection: sqlite3.Connection) -> tuple[int, ShopDay, bool]:
        """The newest entry of the open day, its name, and whether anything happened in it."""
        standing = open_day(connection)
        return standing.last, self._name(connection, standing), standing.first_ms is not None

    def _name(self, connection: sqlite3.Connection, standing: OpenDay) -> ShopDay:
        now_ms = self._clock.now_ms()
        # A first fact from the future: the clock was wrong then, or is now.
        day = self._calendar.day_of(now_ms if standing.first_ms is None else min(standing.first_ms, now_ms))
        while day_entry(connection, str(day)) is not None:
            day = self._calendar.next(day)
        return day

    def _read(self, connection: sqlite3.Connection, day: ShopDay) -> tuple[int, bool, DayClosedEntry]:
        is_open = day_entry(connection, str(day)) is None
        return open_day(connection).last, is_open, self._report(connection, day)

    def _report(self, connection: sqlite3.Connection, day: ShopDay) -> DayClosedEntry:
        open_count, open_operations = read_open(connection)
        late_count, late = read_late(connection)
        lost_count, lost = read_lost(connection)
        drawers = read_drawers(connection)
        return DayClosedEntry(
            day=str(day),
            zone=self._calendar.zone.key,
            cut_off=self._calendar.cut_off,
            begins_ms=day.begins_ms,
            ends_ms=day.ends_ms,
            period=read_period(connection, Scope.SHOP, "", self._currency),
            drawers=drawers[:DRAWERS_MAX],
            drawer_count=len(drawers),
            open=open_operations,
            open_count=open_count,
            late=late,
            late_count=late_count,
            lost=lost,
            lost_count=lost_count,
        )
