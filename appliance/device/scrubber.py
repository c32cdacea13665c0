"""The scrub in the running box: once a day and on demand, in the background, at a fifth of one core's speed.

Owns the thread's pace, the progress and the last result. A good result is an entry; a bad one stops the sales, because
nothing that is appended to a damaged log would convince anybody.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.database import connect_reader
from appliance.ledger.draft import Draft, Purpose, RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.ledger.scrub import scrub, scrub_disclosures
from appliance.ledger.verify import BadEntry, VerifiedLog
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import DAY_MS, ENTRY_BYTES_MAX, HOUR_MS, MINUTE_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.wire import entries

EVERY_MS: Final = DAY_MS
AGAIN_AFTER_MS: Final = MINUTE_MS
_LOOK_MS: Final = HOUR_MS
_REST: Final = 4
"""Pauses are this many times the work before them, so that a payment finds the interpreter free: 40,000 entries/s."""
_DISCLOSURES_REST_MS: Final = 10
"""After each 256 values, which take about 2 ms of the vault's thread."""
_STOP_S_MAX: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One that ended. `code` is empty when all was right; `bad_entry` is the first bad one where it is known."""

    ended_ms: int
    size: int
    root: bytes
    took_ms: int
    code: str = ""
    detail: str = ""
    bad_entry: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubProgress:
    """One that runs."""

    started_ms: int
    checked: int
    size: int


class VerificationProjection:
    """The last good one, so that it is known after a start."""

    name: Final = "verification"
    tables: Final = ("verifications",)
    schema: Final = (
        "CREATE TABLE verifications (one INTEGER PRIMARY KEY CHECK (one = 1), ended_ms INTEGER NOT NULL,"
        " size INTEGER NOT NULL, root BLOB NOT NULL, took_ms INTEGER NOT NULL)",
    )
    kinds: Final = frozenset({entries.VERIFIED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """The last entry wins."""
        last = recorded[-1]
        body = msgspec.convert(cbor.decode(last.body, size_max=ENTRY_BYTES_MAX), entries.VerifiedEntry)
        connection.execute(
            "INSERT OR REPLACE INTO verifications VALUES (1, ?, ?, ?, ?)",
            (last.time_ms, body.size, body.root, body.took_ms),
        )


class _Stopped(Exception):
    """The process ends; the thread lets go."""


class Scrubber:
    """Two services: `run` scrubs when asked, `keep_time` asks once a day."""

    def __init__(
        self, *, ledger: Ledger, folder: Path, clock: Clock, log: Log, on_corrupt: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._clock = clock
        self._log = log
        self._on_corrupt = on_corrupt
        self._wish = asyncio.Event()
        self._progress: ScrubProgress | None = None
        self._last: Verification | None = None

    @property
    def last(self) -> Verification | None:
        """The last one that ended; a good one is remembered over a start."""
        return self._last

    @property
    def progress(self) -> ScrubProgress | None:
        """The one that runs, or has been asked for."""
        return self._progress

    async def load(self) -> None:
        """Read the last good result from the log's table."""
        row = await self._ledger.read(
            lambda connection: connection.execute("SELECT ended_ms, size, root, took_ms FROM verifications").fetchone()
        )
        if row is not None:
            self._last = Verification(ended_ms=row[0], size=row[1], root=row[2], took_ms=row[3])

    def ask(self) -> None:
        """Verify now; nothing when it is being done already.

        Raises:
            Rejected: `verified_just_now`: one ended less than a minute ago.
        """
        if self._progress is not None:
            return
        if self._last is not None and 0 <= self._clock.now_ms() - self._last.ended_ms < AGAIN_AFTER_MS:
            raise Rejected("verified_just_now", "a verification ended less than a minute ago; its result stands")
        self._progress = ScrubProgress(started_ms=self._clock.now_ms(), checked=0, size=self._ledger.head.size)
        self._wish.set()

    async def keep_time(self) -> None:
        """Ask once a day, counted from the last result, also over starts."""
        while True:
            await self._clock.sleep(_LOOK_MS)
            last_ms = 0 if self._last is None else self._last.ended_ms
            if abs(self._clock.now_ms() - last_ms) >= EVERY_MS:
                self.ask()

    async def run(self) -> None:
        """Scrub whenever asked."""
        while True:
            await self._wish.wait()
            self._wish.clear()
            try:
                await self._scrub()
            finally:
                self._progress = None

    async def _scrub(self) -> None:
        started_ms = self._clock.monotonic_ms()
        try:
            log = await self._in_thread()
            if self._ledger.vault is not None:
                await scrub_disclosures(self._ledger.read, self._ledger.vault, self._rest)
        except Corrupt as damage:
            self._last = Verification(
                ended_ms=self._clock.now_ms(),
                size=self._ledger.head.size,
                root=self._ledger.head.root,
                took_ms=self._clock.monotonic_ms() - started_ms,
                code=damage.code,
                detail=damage.detail,
                bad_entry=damage.seq if isinstance(damage, BadEntry) else None,
            )
            self._log.error("log.damaged", code=damage.code, detail=damage.detail)
            self._on_corrupt(damage.detail)
            return
        took_ms = self._clock.monotonic_ms() - started_ms
        self._last = Verification(ended_ms=self._clock.now_ms(), size=log.size, root=log.root, took_ms=took_ms)
        self._log.info("log.verified", entries=log.size, took_ms=took_ms)
        await self._record(log, took_ms)

    async def _rest(self) -> None:
        await self._clock.sleep(_DISCLOSURES_REST_MS)

    async def _record(self, log: VerifiedLog, took_ms: int) -> None:
        body = cbor.encode(
            msgspec.to_builtins(
                entries.VerifiedEntry(root=log.root, size=log.size, took_ms=took_ms), builtin_types=(bytes,)
            )
        )
        draft = Draft(kind=entries.VERIFIED, actor="box", time_ms=self._clock.now_ms(), body=body)
        try:
            await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        except (Unavailable, OutcomeUnknown) as failure:
            self._log.warning("verification.unrecorded", error=failure)  # it was right all the same; tomorrow again

    async def _in_thread(self) -> VerifiedLog:
        stop, ended = threading.Event(), threading.Event()
        ended.set()  # until it begins
        try:
            return await asyncio.to_thread(self._blocking, stop, ended)
        finally:
            # Cancelled, the thread still has a connection; the ledger may close only when that one is gone.
            stop.set()
            await asyncio.to_thread(ended.wait, _STOP_S_MAX)

    def _blocking(self, stop: threading.Event, ended: threading.Event) -> VerifiedLog:
        worked_from = time.monotonic()

        def turn(checked: int, size: int) -> None:
            nonlocal worked_from
            progress = self._progress
            if progress is not None:
                self._progress = ScrubProgress(started_ms=progress.started_ms, checked=checked, size=size)
            if stop.wait(_REST * (time.monotonic() - worked_from)):
                raise _Stopped
            worked_from = time.monotonic()

        ended.clear()
        try:
            if stop.is_set():
                raise _Stopped
            with closing(connect_reader(self._folder)) as connection:
                connection.set_progress_handler(stop.is_set, 100_000)
                return scrub(connection, log_id=self._ledger.log_id, turn=turn)
        finally:
            ended.set()
