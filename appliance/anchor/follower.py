"""The loop that every follower of the log shares: when a step runs, what its failure means, when somebody must look.

Owns schedule, back-off, lag and lateness. It never knows what a step does, and no payment ever waits for it.

* A step reads where it stands from the store, does a bounded amount and commits its result; killed anywhere, it runs
  again from the store. See README.md, "Writing a follower".
* Steps of one follower never overlap. Schedules are jittered: a fleet that was switched on together does not call
  its head office together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from appliance.anchor.store import EvidenceStore, set_success
from appliance.model.errors import OutcomeUnknown, Rejected, TillstoneError, Unavailable
from appliance.model.invariants import ensure
from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics

BACK_OFF_MS_MIN: Final = 1_000
BACK_OFF_MS_MAX: Final = 30 * MINUTE_MS
JITTER: Final = 0.25
"""Each pause is its length give or take this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When steps run.

    Attributes:
        every_ms: pause after a step that worked.
        step_ms_max: a step that takes longer is cancelled and counts as failed.
        late_after_ms: no step worked for this long, and the last one failed: somebody must look.
    """

    every_ms: int
    step_ms_max: int = 2 * MINUTE_MS
    late_after_ms: int = 24 * HOUR_MS

    def __post_init__(self) -> None:
        ensure(min(self.every_ms, self.step_ms_max, self.late_after_ms) > 0, "a schedule has positive times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a step that worked has reached: the first `size` entries are dealt with; `has_more` asks for another now."""

    size: int
    has_more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a follower is, for health and status.

    Attributes:
        lag_entries: entries of the log that it has not dealt with.
        silent_ms: since a step last worked, also before this start; None if none ever did.
        failures: failed steps since one worked.
        reason: of the last failure, empty when the last step worked.
        next_ms: until the next step; 0 while one is running.
    """

    name: str
    lag_entries: int
    silent_ms: int | None
    failures: int
    reason: str
    is_late: bool
    next_ms: int


class Follower:
    """Runs `step` for ever; a supervised service."""

    def __init__(
        self,
        *,
        name: str,
        step: Callable[[], Awaitable[Progress]],
        schedule: Schedule,
        store: EvidenceStore,
        newest: Callable[[], int],
        clock: Clock,
        metrics: Metrics,
        log: Log,
        jitter: Random,
    ) -> None:
        """`name` is of the closed set witness, timestamp, publish, reconcile; `newest` is the log's durable size."""
        self._name = name
        self._step = step
        self._schedule = schedule
        self._store = store
        self._newest = newest
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._jitter = jitter
        self._size = 0
        self._success_ms = 0
        self._started_ms = clock.now_ms()
        self._failures = 0
        self._reason = ""
        self._next_at_ms = self._started_ms

    async def run(self) -> None:
        """Step, pause, step. Corrupt and Bug of a step end it; anything a later try may cure does not."""
        await self.resume()
        # The first step comes soon, whatever the schedule: it may show that this log is not the one the world knows.
        pause_ms = BACK_OFF_MS_MIN
        while True:
            self._tell()
            wait_ms = self._jittered(pause_ms)
            self._next_at_ms = self._clock.now_ms() + wait_ms
            await self._clock.sleep(wait_ms)
            pause_ms = await self.step_once()

    async def resume(self) -> None:
        """Know what was reached before this start."""
        cursor = await self._store.cursor(self._name)
        self._size, self._success_ms = cursor.size, cursor.success_ms

    async def step_once(self) -> int:
        """One step; returns the pause after it in milliseconds, before jitter."""
        try:
            async with asyncio.timeout(self._schedule.step_ms_max / 1_000):
                progress = await self._step()
            now_ms = self._clock.now_ms()
            await self._store.write(lambda connection: set_success(connection, self._name, now_ms))
        except (Unavailable, Rejected, OutcomeUnknown, TimeoutError) as failure:
            return self._failed(failure)
        if self._failures:
            self._log.info("follower.recovered", follower=self._name, failures=self._failures)
        self._size, self._success_ms, self._failures, self._reason = progress.size, now_ms, 0, ""
        return 0 if progress.has_more else self._schedule.every_ms

    @property
    def standing(self) -> Standing:
        """How it is at this moment; reads memory only."""
        now_ms = self._clock.now_ms()
        silent_ms = max(0, now_ms - self._success_ms) if self._success_ms else None
        # A box that was switched off for a week is late only once it has tried again, and failed.
        since_ms = max(0, now_ms - self._started_ms) if silent_ms is None else silent_ms
        return Standing(
            name=self._name,
            lag_entries=max(0, self._newest() - self._size),
            silent_ms=silent_ms,
            failures=self._failures,
            reason=self._reason,
            is_late=self._failures > 0 and since_ms > self._schedule.late_after_ms,
            next_ms=max(0, self._next_at_ms - now_ms),
        )

    def _failed(self, failure: TillstoneError | TimeoutError) -> int:
        self._failures += 1
        bound_ms = self._schedule.step_ms_max
        self._reason = failure.detail if isinstance(failure, TillstoneError) else f"a step took more than {bound_ms} ms"
        self._metrics.follower_failed(self._name)
        if self._failures == 1:  # the rest is in the counter: a week without a network is not a week of lines
            self._log.warning("follower.failed", follower=self._name, error=failure)
        return min(BACK_OFF_MS_MAX, BACK_OFF_MS_MIN << min(self._failures, 20))

    def _tell(self) -> None:
        standing = self.standing
        self._metrics.follower_stands(
            self._name,
            lag_entries=standing.lag_entries,
            success_seconds=self._success_ms / 1_000,
            is_late=standing.is_late,
        )

    def _jittered(self, pause_ms: int) -> int:
        return int(pause_ms * self._jitter.uniform(1 - JITTER, 1 + JITTER))
