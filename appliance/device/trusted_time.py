"""Keeps the box's time from being turned back behind its back: marks in the log, a judgement at each start.

- A mark (wall and TPM clock, read together) is an entry at each start and each hour.
- A wall clock that the log or the TPM contradicts is an entry (`clock_set`). Set back, the box counts on from the
  latest time that it can prove until the wall clock is later, or an operator accepts it. Set ahead, it is believed:
  nobody here can tell a wrong jump from a correction.
- Steps while the process runs are entries too (`runtime/clock.py`, `clock_step`) and are followed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.device.health import Finding, Level
from appliance.ledger.draft import Draft, Purpose, RecordedEntry
from appliance.ledger.entry import decode
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import ENTRY_BYTES_MAX, HOUR_MS, MINUTE_MS
from appliance.model.trusted_time import Judged, Mark, PlatformClock, Proof, judge
from appliance.runtime.clock import FlooredClock
from appliance.runtime.log import Log
from appliance.wire.device_entries import CLOCK_MARK, CLOCK_SET, ClockMarkEntry, ClockSetEntry
from appliance.wire.requests import Wire

_BOX: Final = "box"
_OPERATOR: Final = "operator"


class ClockMarkProjection:
    """The newest mark."""

    name: Final = "clock_mark"
    tables: Final = ("clock_marks",)
    schema: Final = (
        "CREATE TABLE clock_marks (one INTEGER PRIMARY KEY CHECK (one = 1), wall_ms INTEGER NOT NULL,"
        " powered_ms INTEGER NOT NULL, resets INTEGER NOT NULL, is_safe INTEGER NOT NULL)",
    )
    kinds: Final = frozenset({CLOCK_MARK})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """The last entry wins."""
        last = recorded[-1]
        mark = msgspec.convert(cbor.decode(last.body, size_max=ENTRY_BYTES_MAX), ClockMarkEntry)
        connection.execute(
            "INSERT OR REPLACE INTO clock_marks VALUES (1, ?, ?, ?, ?)",
            (last.time_ms, mark.powered, mark.resets, mark.safe),
        )


class TrustedTime:
    """What a start judged, and the hourly mark.

    Args:
        clock: the process's, whose floor is raised here.
        platform: reads the TPM's clock; None where there is no TPM.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: FlooredClock,
        platform: Callable[[], Awaitable[PlatformClock]] | None,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._platform = platform
        self._log = log
        self._judged = Judged(floor_ms=0)

    async def begin(self) -> None:
        """Before anything else is recorded: judge, raise the floor, write down what was found."""
        platform = await self._read()
        mark, logged_ms = await self._ledger.read(_read_mark), await self._ledger.read(_newest_ms)
        found = judge(wall_ms=self._clock.now_ms(), logged_ms=logged_ms, mark=mark, platform=platform)
        self._judged = found
        if found.step_ms < 0:
            self._clock.raise_floor(found.floor_ms)
        if found.step_ms:
            self._log.warning("clock.set", step_ms=found.step_ms, proof=found.proof)
            await self._append(CLOCK_SET, ClockSetEntry(proof=found.proof, step_ms=found.step_ms), _BOX)
        await self._mark(platform, found.unproven_ms)

    async def run(self) -> None:
        """A service: a mark each hour."""
        while True:
            await self._clock.sleep(HOUR_MS)
            try:
                await self._mark(await self._read(), 0)
            except (Unavailable, OutcomeUnknown) as trouble:
                self._log.warning("mark.postponed", code=trouble.code)

    async def accept(self) -> None:
        """An operator says that the wall clock is right as it is.

        Raises:
            Rejected: `clock_not_doubted`.
        """
        behind_ms = self._clock.behind_ms
        if not behind_ms:
            raise Rejected("clock_not_doubted", "the box goes by its wall clock already")
        self._clock.drop_floor()  # first: entry and mark have the accepted time, which the next start compares with
        await self._append(CLOCK_SET, ClockSetEntry(proof=Proof.OPERATOR, step_ms=-behind_ms), _OPERATOR)
        await self._mark(await self._read(), 0)

    def check(self) -> Finding:
        """What health says of the clock."""
        behind_ms, ahead_ms = self._clock.behind_ms, self._judged.step_ms
        if behind_ms:
            return Finding(
                check="clock",
                level=Level.COPING,
                sentence=f"The clock is {behind_ms // MINUTE_MS} minutes behind what was recorded; the box counts on"
                " from there.",
                next_step="Set the clock, or see that the box reaches its time server. If it is right:"
                " tillstone device accept-clock.",
            )
        if ahead_ms > 0:
            return Finding(
                check="clock",
                level=Level.COPING,
                sentence=f"At the last start the clock was {ahead_ms // MINUTE_MS} minutes ahead of what can have"
                " passed.",
                next_step="Compare it with another clock.",
            )
        return Finding(check="clock", level=Level.OK, sentence="Nothing speaks against the clock.")

    async def _read(self) -> PlatformClock | None:
        if self._platform is None:
            return None
        try:
            return await self._platform()
        except (Unavailable, Corrupt) as trouble:
            self._log.warning("clock.unproven", code=trouble.code)
            return None

    async def _mark(self, platform: PlatformClock | None, unproven_ms: int) -> None:
        if platform is None:
            return
        mark = ClockMarkEntry(
            safe=platform.is_safe, resets=platform.resets, powered=platform.powered_ms, unproven=unproven_ms
        )
        await self._append(CLOCK_MARK, mark, _BOX)

    async def _append(self, kind: str, body: Wire, actor: str) -> None:
        encoded = cbor.encode(msgspec.to_builtins(body))
        draft = Draft(kind=kind, actor=actor, time_ms=self._clock.now_ms(), body=encoded)
        await self._ledger.append([draft], purpose=Purpose.OUTCOME)


def _read_mark(connection: sqlite3.Connection) -> Mark | None:
    row = connection.execute("SELECT wall_ms, powered_ms, resets, is_safe FROM clock_marks").fetchone()
    if row is None:
        return None
    return Mark(wall_ms=row[0], platform=PlatformClock(powered_ms=row[1], resets=row[2], is_safe=bool(row[3])))


def _newest_ms(connection: sqlite3.Connection) -> int:
    (newest,) = connection.execute("SELECT entry FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    return decode(newest).time_ms
