"""The state that the box is in: what holds now, what of it the log remembers, and the entry of each change.

Owns the lock. Its rules:
- what stops sales does so at once; an operator's lock and a retirement are durable before they take effect;
- evidence and faults are looked at anew by each process, a lock and a retirement stand in the log;
- a device that comes and goes makes no flood: `degraded` and its end are recorded once they have held for a while.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.device.admission import Quarantine
from appliance.device.health import Check, Level
from appliance.ledger.draft import Draft, Purpose, RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.model.device_state import Act, Cause, Condition, DeviceState, Role, follow, require, worst
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.wire.device_entries import DEVICE_STATE, DeviceStateEntry

LOOK_MS: Final = 1_000
HOLDS_MS: Final = 10_000
"""How long a device is away, or back, before that is an entry."""
OPERATOR: Final = "operator"
_BOX: Final = "box"
_REASON_CHARACTERS_MAX: Final = 500
_CAUSE_OF: Final = {
    DeviceState.LOCKED: Cause.START,  # what was worse has gone, and the lock stands still
    DeviceState.OPERATIONAL: Cause.WELL,
    DeviceState.DEGRADED: Cause.MISSING,
    DeviceState.QUARANTINED: Cause.EVIDENCE,
    DeviceState.FAILED: Cause.FAULT,
    DeviceState.RETIRED: Cause.RETIRE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the log says: the state, since when and why; `lock` is the reason of one that stands."""

    state: DeviceState = DeviceState.UNPROVISIONED
    since_ms: int = 0
    reason: str = ""
    lock: str | None = None


class DeviceStateProjection:
    """One row: what the newest entries say."""

    name: Final = "device_state"
    tables: Final = ("device_states",)
    schema: Final = (
        "CREATE TABLE device_states (one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL,"
        " since_ms INTEGER NOT NULL, reason TEXT NOT NULL, lock TEXT)",
    )
    kinds: Final = frozenset({DEVICE_STATE})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """The last state wins; a lock stands until its end."""
        standing = read_standing(connection)
        for entry in recorded:
            body = msgspec.convert(cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX), DeviceStateEntry)
            standing = _after(standing, body, entry.time_ms)
        connection.execute(
            "INSERT OR REPLACE INTO device_states VALUES (1, ?, ?, ?, ?)",
            (standing.state, standing.since_ms, standing.reason, standing.lock),
        )


def _after(standing: Standing, body: DeviceStateEntry, time_ms: int) -> Standing:
    lock = {Cause.LOCK: body.reason, Cause.TAMPER: body.reason, Cause.UNLOCK: None}.get(
        Cause(body.cause), standing.lock
    )
    if body.state == body.before:
        return Standing(state=standing.state, since_ms=standing.since_ms, reason=standing.reason, lock=lock)
    return Standing(state=DeviceState(body.state), since_ms=time_ms, reason=body.reason, lock=lock)


def read_standing(connection: sqlite3.Connection) -> Standing:
    """What the log says of the device now."""
    row = connection.execute("SELECT state, since_ms, reason, lock FROM device_states").fetchone()
    if row is None:
        return Standing()
    return Standing(state=DeviceState(row[0]), since_ms=row[1], reason=row[2], lock=row[3])


class DeviceLife:
    """The conditions that hold now, and the service that writes their changes down.

    Args:
        parts: checks of devices; COPING makes the box `degraded`.
        fault: why a part does not come back without a person, if so.
        told: hears each state that is recorded.
        require_closed: raises while the case is open.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        quarantine: Quarantine,
        parts: Callable[[], Sequence[Check]],
        fault: Callable[[], str | None],
        told: Callable[[DeviceState], None],
        require_closed: Callable[[], Awaitable[None]] | None = None,
        clock: Clock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._quarantine = quarantine
        self._parts = parts
        self._fault = fault
        self._told = told
        self._require_closed = require_closed
        self._clock = clock
        self._log = log
        self._standing = Standing()
        self._tampered: str | None = None
        self._writing = asyncio.Lock()
        self._seen = DeviceState.UNPROVISIONED
        self._seen_ms = 0

    @property
    def standing(self) -> Standing:
        """What the log says."""
        return self._standing

    def conditions(self) -> tuple[Condition, ...]:
        """What holds now and limits what may be done; nothing of it when the box sells."""
        found = (
            (DeviceState.RETIRED, self._standing.reason if self._standing.state is DeviceState.RETIRED else None),
            (DeviceState.FAILED, self._fault()),
            (DeviceState.QUARANTINED, self._quarantine.reason),
            (DeviceState.LOCKED, self._standing.lock or self._tampered),
        )
        return tuple(Condition(state=state, reason=reason) for state, reason in found if reason is not None)

    def require(self, act: Act, role: Role = Role.OPERATOR) -> None:
        """Raise Unavailable unless the table lets `role` do `act` now; see `model/device_state.py`."""
        require(self.conditions(), act, role)

    async def begin(self) -> None:
        """Read the log, and record at once what this start found."""
        await self._load()
        if self._standing.state is not DeviceState.RETIRED:
            now = self._now()
            await self._change(now.state, Cause.START, now.reason)

    async def run(self) -> None:
        """A service: each change becomes an entry; what only made the box degraded, or well again, when it holds."""
        while True:
            await self._clock.sleep(LOOK_MS)
            now = self._now()
            if now.state is not self._seen:
                self._seen, self._seen_ms = now.state, self._clock.monotonic_ms()
            is_minor = now.state in (DeviceState.OPERATIONAL, DeviceState.DEGRADED)
            if is_minor and self._clock.monotonic_ms() - self._seen_ms < HOLDS_MS:
                continue
            try:
                await self._change(now.state, _CAUSE_OF[now.state], now.reason)
            except (Unavailable, OutcomeUnknown) as trouble:
                self._log.warning("state.unrecorded", code=trouble.code)  # it holds all the same; the next look tries

    async def lock(self, reason: str) -> None:
        """Sell nothing from here on, also after a restart, until `unlock`.

        Raises:
            Unavailable: the entry could not be written: the box is not locked.
        """
        self.require(Act.LOCK)
        async with self._writing:
            await self._record(self._locked(), Cause.LOCK, reason, actor=OPERATOR)

    async def unlock(self, reason: str) -> None:
        """End the lock; what else holds goes on.

        Raises:
            Rejected: `device_not_locked`; `tamper_open`.
        """
        if not any(each.state is DeviceState.LOCKED for each in self.conditions()):
            raise Rejected("device_not_locked", "this box is not locked")
        self.require(Act.UNLOCK)
        if self._require_closed is not None:
            await self._require_closed()
        async with self._writing:
            before, is_missing = self._standing.state, bool(self._missing())
            rest = DeviceState.DEGRADED if is_missing else DeviceState.OPERATIONAL
            await self._record(rest if before is DeviceState.LOCKED else before, Cause.UNLOCK, reason, actor=OPERATOR)
            self._tampered = None

    async def tamper(self, reason: str) -> None:
        """Lock at once, whatever becomes of the entry; nothing is written where that very lock stands already.

        Raises:
            Unavailable, OutcomeUnknown: there is no entry yet: tell it again.
        """
        self._tampered = reason
        async with self._writing:
            if self._standing.lock != reason:
                await self._record(self._locked(), Cause.TAMPER, reason)

    async def retire(self, reason: str, cause: Cause, *, actor: str = _BOX) -> None:
        """The last state; durable before anything is destroyed. Raises like every append."""
        async with self._writing:
            await self._record(DeviceState.RETIRED, cause, reason, actor=actor)

    def _now(self) -> Condition:
        return worst((*self.conditions(), *self._missing()))

    def _missing(self) -> tuple[Condition, ...]:
        found = [check() for check in self._parts()]
        return tuple(
            Condition(state=DeviceState.DEGRADED, reason=finding.sentence)
            for finding in found
            if finding.level is not Level.OK
        )

    def _locked(self) -> DeviceState:
        """What is told once a lock stands; a worse state that is recorded goes before it."""
        before = Condition(state=self._standing.state, reason="")
        return worst((before, Condition(state=DeviceState.LOCKED, reason=""))).state

    async def _change(self, state: DeviceState, cause: Cause, reason: str) -> None:
        async with self._writing:
            if state is not self._standing.state:
                await self._record(state, cause, reason)

    async def _record(self, after: DeviceState, cause: Cause, reason: str, *, actor: str = _BOX) -> None:
        before = self._standing.state
        body = DeviceStateEntry(
            cause=cause, state=follow(before, after, cause), before=before, reason=reason[:_REASON_CHARACTERS_MAX]
        )
        encoded = cbor.encode(msgspec.to_builtins(body))
        draft = Draft(kind=DEVICE_STATE, actor=actor, time_ms=self._clock.now_ms(), body=encoded)
        await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        await self._load()
        self._log.warning("state.changed", state=after, before=before, cause=cause)

    async def _load(self) -> None:
        self._standing = await self._ledger.read(read_standing, purpose=Purpose.OUTCOME)
        self._told(self._standing.state)
