"""How long a caller will wait: made once at the door, carried inward, never extended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appliance.ports.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A moment of the monotonic clock."""

    clock: Clock
    at_ms: int

    @classmethod
    def after(cls, clock: Clock, duration_ms: int) -> Deadline:
        """The deadline `duration_ms` from now."""
        return cls(clock=clock, at_ms=clock.monotonic_ms() + duration_ms)

    @property
    def remaining_ms(self) -> int:
        """Milliseconds left; 0 once it has passed."""
        return max(0, self.at_ms - self.clock.monotonic_ms())

    @property
    def has_passed(self) -> bool:
        return self.remaining_ms == 0

    def at_most(self, duration_ms: int) -> Deadline:
        """The earlier of this deadline and `duration_ms` from now: for a step with a bound of its own."""
        return Deadline(clock=self.clock, at_ms=min(self.at_ms, self.clock.monotonic_ms() + duration_ms))

    def scope(self) -> asyncio.Timeout:
        """`async with deadline.scope():` raises TimeoutError at the deadline.

        The caller turns that into Unavailable or OutcomeUnknown, because only it knows whether anything was sent.
        """
        return asyncio.timeout(self.remaining_ms / 1_000)
