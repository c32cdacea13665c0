"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from typing import Final

START_MS: Final = 1_790_000_000_000  # 2026-09-21, a Monday
_ROUNDS: Final = 20  # loop turns after each wake-up; enough for a chain of awaits to reach its next sleep


class FakeClock:
    """Satisfies `ports/clock.py`: sleepers wake in order while `advance` runs, wall time steps apart from it."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._monotonic_ms = 0
        self._offset_ms = now_ms
        self._order = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._monotonic_ms + self._offset_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    async def sleep(self, duration_ms: int) -> None:
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._monotonic_ms + duration_ms, self._order, wake))
        await wake

    @property
    def sleeper_count(self) -> int:
        """How many are asleep and still waited for."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    def step(self, step_ms: int) -> None:
        """Move wall time alone, as an operator or NTP does."""
        self._offset_ms += step_ms

    def pass_time(self, duration_ms: int) -> None:
        """Move both clocks without waking anybody: for code that only reads time."""
        self._monotonic_ms += duration_ms

    async def advance(self, duration_ms: int) -> None:
        """Let time pass: each sleeper wakes at its moment and runs before the next one does."""
        end_ms = self._monotonic_ms + duration_ms
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end_ms:
            at_ms, _, wake = heapq.heappop(self._sleepers)
            self._monotonic_ms = max(self._monotonic_ms, at_ms)
            if not wake.done():
                wake.set_result(None)
                await self.settle()
        self._monotonic_ms = end_ms
        await self.settle()

    async def settle(self) -> None:
        """Let everything that is ready run until it waits."""
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)


class SkippingClock:
    """Satisfies `ports/clock.py`: a sleep takes no time and moves the clock by its length."""

    def __init__(self) -> None:
        self._passed_ms = 0

    def now_ms(self) -> int:
        return START_MS + self._passed_ms

    def monotonic_ms(self) -> int:
        return self._passed_ms

    async def sleep(self, duration_ms: int) -> None:
        self._passed_ms += duration_ms
        await asyncio.sleep(0)

    def pass_time(self, duration_ms: int) -> None:
        """Move both clocks, as a sleep does."""
        self._passed_ms += duration_ms


class HeldClock(SkippingClock):
    """A SkippingClock whose sleepers sleep until `let_pass`. Attributes: `asleep`, set once somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()
        self._may_pass = asyncio.Event()

    async def sleep(self, duration_ms: int) -> None:
        self.asleep.set()
        await self._may_pass.wait()
        await super().sleep(duration_ms)

    def let_pass(self) -> None:
        self._may_pass.set()
