"""The system's clock, and the watch that tells when its wall time stepped.

Owns reading time; it never corrects it. A step is a fact for the ledger (the caller writes the entry), not a
reason to stop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from appliance.ports.clock import Clock

STEP_MS_MIN: Final = 500
"""Smaller differences are slewing (at most 0.5 ms a second) and scheduling, not steps."""
LOOK_EVERY_MS: Final = 1_000


class SystemClock:
    """The kernel's clocks; satisfies `ports/clock.py`."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1_000)


class FlooredClock:
    """A clock that is never earlier than a proven time, which goes on by monotonic time; satisfies `ports/clock.py`."""

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self._floor_ms: int | None = None
        self._raised_ms = 0

    def now_ms(self) -> int:
        return max(self._inner.now_ms(), self._least_ms())

    def monotonic_ms(self) -> int:
        return self._inner.monotonic_ms()

    async def sleep(self, duration_ms: int) -> None:
        await self._inner.sleep(duration_ms)

    @property
    def behind_ms(self) -> int:
        """How far the wall clock is behind the floor; 0 once it is later."""
        return max(0, self._least_ms() - self._inner.now_ms())

    def raise_floor(self, floor_ms: int) -> None:
        """It is at least `floor_ms` (Unix time) now."""
        self._floor_ms, self._raised_ms = floor_ms, self._inner.monotonic_ms()

    def drop_floor(self) -> None:
        """Go by the wall clock alone."""
        self._floor_ms = None

    def _least_ms(self) -> int:
        return 0 if self._floor_ms is None else self._floor_ms + self._inner.monotonic_ms() - self._raised_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep:
    """Wall time moved by `step_ms` (negative: back) more than monotonic time did; `now_ms` is the time after it."""

    step_ms: int
    now_ms: int


class StepDetector:
    """Compares wall with monotonic time, look by look, so that slow drift never adds up to a step."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms = self._read_offset_ms()

    def step_ms(self) -> int:
        """How far the wall clock stepped since the last look; 0 when it did not."""
        offset_ms = self._read_offset_ms()
        moved_ms = offset_ms - self._offset_ms
        self._offset_ms = offset_ms
        return moved_ms if abs(moved_ms) >= STEP_MS_MIN else 0

    async def steps(self) -> AsyncIterator[ClockStep]:
        """Every step from now on, for a supervised service that records them."""
        while True:
            await self._clock.sleep(LOOK_EVERY_MS)
            step_ms = self.step_ms()
            if step_ms:
                yield ClockStep(step_ms=step_ms, now_ms=self._clock.now_ms())

    def _read_offset_ms(self) -> int:
        return self._clock.now_ms() - self._clock.monotonic_ms()
