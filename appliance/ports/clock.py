"""Time as the core sees it, so that tests own it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time and monotonic time; the two are never mixed."""

    def now_ms(self) -> int:
        """Unix time in milliseconds, UTC; may step."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never steps, from an arbitrary origin."""
        ...

    async def sleep(self, duration_ms: int) -> None:
        """Wait at least `duration_ms`."""
        ...
