"""When to try a lost device again: closed, open with a capped exponential back-off, half-open for one trial, or held.

Decides only; it never calls the device. Held means that trying again by itself would do harm (a PIN that was refused)
or is pointless (a key that is not the pinned one): a person must look, and a restart begins afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from appliance.model.errors import Unavailable
from appliance.model.invariants import ensure
from appliance.ports.clock import Clock

BreakerState = Literal["closed", "open", "half_open", "held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How long a device rests after its n-th failure in a row: `first_ms` doubled each time, at most `cap_ms`."""

    first_ms: int = 100
    cap_ms: int = 10_000

    def __post_init__(self) -> None:
        ensure(0 < self.first_ms <= self.cap_ms, "a back-off grows from first_ms to cap_ms")

    def after(self, failure_count: int, jitter: float) -> int:
        """Milliseconds; `jitter` in [0, 1) spreads it over the upper half, so that boxes do not return in step."""
        full = min(self.cap_ms, self.first_ms << min(failure_count - 1, 32))
        return full // 2 + int(full / 2 * jitter)


class Breaker:
    """The state of one device connection; used on the event loop only."""

    def __init__(self, *, device: str, clock: Clock, random: Callable[[], float], back_off: BackOff) -> None:
        self._device = device
        self._clock = clock
        self._random = random
        self._back_off = back_off
        self._state: BreakerState = "closed"
        self._failure_count = 0
        self._opens_at_ms = 0
        self._reason = ""

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def reason(self) -> str:
        """Why it is not closed; empty when it is."""
        return self._reason

    def admit(self) -> None:
        """Let a call through or refuse it; after the back-off one call is let through as a trial.

        Raises:
            Unavailable: the device rests, a trial is running, or the breaker is held.
        """
        if self._state == "closed":
            return
        if self._state == "open" and self._clock.monotonic_ms() >= self._opens_at_ms:
            self._state = "half_open"
            return
        raise Unavailable("device_away", f"{self._device} is not asked now: {self._reason}")

    def succeeded(self) -> None:
        """The device answered."""
        if self._state != "held":
            self._state, self._failure_count, self._reason = "closed", 0, ""

    def failed(self, reason: str) -> None:
        """The device did not answer as it must: rest longer than the last time."""
        if self._state == "held":
            return
        self._failure_count += 1
        self._opens_at_ms = self._clock.monotonic_ms() + self._back_off.after(self._failure_count, self._random())
        self._state, self._reason = "open", reason

    def gave_up_trial(self) -> None:
        """The trial ended without an answer about the device (its caller left): the next call is the trial."""
        if self._state == "half_open":
            self._state = "open"

    def hold(self, reason: str) -> None:
        """Never try again in this process."""
        self._state, self._reason = "held", reason
