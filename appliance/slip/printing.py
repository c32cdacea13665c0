"""Prints slips and reports, after the answer and beside the sales.

Owns a bounded queue and the rule which paper is an original. Must never make a sale wait: it follows the log, and what
cannot be printed is counted and forgotten.

* An original is printed once, by itself, when its entry is new. Everything that a person asks for says COPY, so two
  originals of one sale never exist, not even after a page whose end nobody confirmed.
* A printer that is out of paper is waited for, for a minute: the customer has left after that.
* The drawer has a queue of its own, so that it never waits for paper, and opens once for a sale, for cash only.
* Nothing is remembered over a restart. A slip that was lost is a copy away: `tillstone receipt KEY --print`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.ports.printer import Page, Printed, Printer, PrinterState
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.slip.layout import lay_out
from appliance.slip.reader import SlipReader
from appliance.slip.slip import Slip, Standing, payment_of
from appliance.wire import entries, till_entries

QUEUE_PAGES_MAX: Final = 32
WAIT_FOR_PAPER_MS: Final = MINUTE_MS
LOOK_AGAIN_MS: Final = 3_000
WATCH_MS: Final = 30_000
FRESH_MS: Final = 5 * MINUTE_MS
"""A stored sale that a till hands over later prints nothing: nobody waits for that paper."""

_PAYMENTS: Final = frozenset({entries.SALE, entries.OUTCOME, entries.REFUND, entries.REVERSAL})
_PRINTED: Final = frozenset({Standing.PAID, Standing.PARTLY_REFUNDED, Standing.REFUNDED, Standing.REVERSED})
_PAGE_ENTRIES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What waits: read and laid out only when its turn comes, so that a rush of sales costs a place in a queue each."""

    name: str
    make: Callable[[], Awaitable[Page | None]]


class Printing:
    """The queue in front of one printer, which serves `terminals` (none named: all)."""

    def __init__(
        self,
        *,
        printer: Printer,
        reader: SlipReader,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        columns: int,
        prints_each_sale: bool,
        opens_drawer: bool,
        terminals: Collection[str] = (),
    ) -> None:
        self._printer = printer
        self._reader = reader
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._columns = columns
        self._prints_each_sale = prints_each_sale
        self._opens_drawer = opens_drawer
        self._terminals = frozenset(terminals)
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(QUEUE_PAGES_MAX)
        self._sold: asyncio.Queue[RecordedEntry] = asyncio.Queue(QUEUE_PAGES_MAX)
        self._state: PrinterState | None = None
        self._is_dropping = False  # said once for a whole rush

    @property
    def state(self) -> PrinterState | None:
        """How the printer was found last; None before the first look."""
        return self._state

    @property
    def columns(self) -> int:
        """Characters of a row."""
        return self._columns

    def copy(self, key: RequestKey) -> None:
        """Print a copy. Raises Unavailable `printer_busy`."""
        self._add(_Job(name=str(key), make=lambda: self._copy(key)))

    def report(self, name: str, page: Page) -> None:
        """Print what is laid out already, such as a day's report. Raises Unavailable `printer_busy`."""
        self._add(_Job(name=name, make=lambda: _as_it_is(page)))

    async def follow(self) -> None:
        """Queue an original and the drawer for what its terminals do from now on, once it is durable."""
        after = self._ledger.head.size - 1
        while self._prints_each_sale or self._opens_drawer:
            await self._ledger.wait_beyond(after + 1)
            page = await self._ledger.entries(after=after, limit=_PAGE_ENTRIES, kinds=_PAYMENTS | till_entries.ACTS)
            for entry in page.entries:
                if not self._terminals or entries.terminal_of(entry.actor) in self._terminals:
                    self._queue(entry)
            after = page.next_after

    async def work(self) -> None:
        """Print one page after another."""
        while True:
            job = await self._jobs.get()
            self._is_dropping = False
            try:
                await self._perform(job)
            except (Rejected, Unavailable, OutcomeUnknown) as trouble:
                self._drop(job.name, trouble.code)

    async def open_drawers(self) -> None:
        """Open the drawer for cash, one after another."""
        while True:
            entry = await self._sold.get()
            try:
                if await self._is_for_cash(entry):
                    self._saw((await self._printer.open_drawer()).state)
            except (Rejected, Unavailable, OutcomeUnknown) as trouble:
                self._log.warning("drawer.stayed_shut", entry=entry.seq, code=trouble.code)

    async def watch(self) -> None:
        """Look at the printer from time to time, so that health knows before a customer does."""
        while True:
            if self._jobs.empty():
                self._saw(await self._printer.state())
            await self._clock.sleep(WATCH_MS)

    def _queue(self, entry: RecordedEntry) -> None:
        if self._prints_each_sale and entry.kind in _PAYMENTS:
            self._queue_original(entry)
        if self._opens_drawer and not self._sold.full():
            self._sold.put_nowait(entry)

    def _queue_original(self, entry: RecordedEntry) -> None:
        try:
            self._add(_Job(name=f"entry {entry.seq}", make=lambda: self._original(entry)))
        except Unavailable as full:
            self._drop(f"entry {entry.seq}", full.code)

    async def _original(self, entry: RecordedEntry) -> Page | None:
        read = await self._reader.read(_key_of(entry))
        if not self._is_news(read.slip, entry):
            return None
        return lay_out(read.slip, self._reader.shop, read.proof, width=self._columns)

    async def _copy(self, key: RequestKey) -> Page:
        read = await self._reader.read(key)
        return lay_out(read.slip, self._reader.shop, read.proof, width=self._columns, is_copy=True)

    def _is_news(self, slip: Slip, entry: RecordedEntry) -> bool:
        """Whether a customer stands there because of `entry`; a refusal to give back leaves the first original true."""
        is_newest = slip.entry_seq == entry.seq and slip.standing in _PRINTED and slip.proven in _PRINTED
        return is_newest and self._clock.now_ms() - entry.time_ms <= FRESH_MS and not _was_stored(slip)

    async def _is_for_cash(self, entry: RecordedEntry) -> bool:
        if entry.kind in till_entries.ACTS:
            return self._clock.now_ms() - entry.time_ms <= FRESH_MS
        slip = await self._reader.slip(_key_of(entry))
        return self._is_news(slip, entry) and _moves_cash(slip)

    async def _perform(self, job: _Job) -> None:
        ends_ms = self._clock.monotonic_ms() + WAIT_FOR_PAPER_MS
        while True:
            page = await job.make()  # anew for each try: what waited for paper may have been refunded meanwhile
            if page is None:
                return
            result = await self._printer.print(page)
            self._saw(result.state)
            if result.printed is not Printed.NOT_BEGUN or self._clock.monotonic_ms() >= ends_ms:
                break
            await self._clock.sleep(LOOK_AGAIN_MS)
        self._metrics.printed(result.printed.value)
        if result.printed is not Printed.DONE:
            self._log.warning("page.not_printed", page=job.name, what=result.printed.value, printer=result.state.value)

    def _add(self, job: _Job) -> None:
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            raise Unavailable("printer_busy", f"{QUEUE_PAGES_MAX} pages wait for the printer") from None

    def _drop(self, name: str, code: str) -> None:
        self._metrics.printed("dropped")
        if not self._is_dropping:
            self._log.warning("page.dropped", page=name, code=code)
        self._is_dropping = True

    def _saw(self, state: PrinterState) -> None:
        self._state = state
        self._metrics.device_up("printer", state not in (PrinterState.SILENT, PrinterState.UNREADABLE))


def _moves_cash(slip: Slip) -> bool:
    if slip.given_back is not None:
        return slip.given_back.cash_minor > 0
    return slip.sale is not None and any(tender.kind == "cash" for tender in slip.sale.tenders)


def _was_stored(slip: Slip) -> bool:
    """Sold long before it was recorded."""
    return slip.given_back is None and slip.sale is not None and slip.time_ms - slip.sale.sold_at_ms > FRESH_MS


async def _as_it_is(page: Page) -> Page:
    return page


def _key_of(entry: RecordedEntry) -> RequestKey:
    return RequestKey(uuid.UUID(bytes=payment_of(entry)))
