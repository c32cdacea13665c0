"""A token bucket: so many a second on average, so many at once."""

from __future__ import annotations

from appliance.model.errors import Rejected
from appliance.ports.clock import Clock


class TokenBucket:
    """One bucket; `take` costs well under a microsecond."""

    def __init__(self, *, per_second: int, burst: int, clock: Clock) -> None:
        self._per_ms = per_second / 1_000
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at_ms = clock.monotonic_ms()

    def take(self) -> None:
        """One read. Raises Rejected `too_many_reads`."""
        now_ms = self._clock.monotonic_ms()
        self._tokens = min(self._burst, self._tokens + (now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms
        if self._tokens < 1:
            raise Rejected("too_many_reads", f"expected at most {self._per_second} reads a second; wait a moment")
        self._tokens -= 1
