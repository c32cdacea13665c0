"""Room on the disk: the last 256 MB belong to what was already begun.

Owns the question "may something new start?". Must never refuse an outcome.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from appliance.model.errors import Unavailable
from appliance.ports.clock import Clock

FREE_BYTES_MIN = 256 << 20
ASK_EVERY_MS = 1_000


class Room:
    """Asks the file system at most once a second."""

    def __init__(self, *, folder: Path, clock: Clock, free_bytes_min: int = FREE_BYTES_MIN) -> None:
        self._folder = folder
        self._clock = clock
        self._free_bytes_min = free_bytes_min
        self._asked_ms: int | None = None
        self._free_bytes = 0

    async def require(self) -> None:
        """Raise Unavailable `disk_low` unless there is room for something new."""
        now_ms = self._clock.monotonic_ms()
        if self._asked_ms is None or now_ms - self._asked_ms >= ASK_EVERY_MS:
            status = await asyncio.to_thread(os.statvfs, self._folder)
            self._free_bytes = status.f_bavail * status.f_frsize
            self._asked_ms = now_ms
        if self._free_bytes < self._free_bytes_min:
            raise Unavailable(
                "disk_low", f"expected {self._free_bytes_min >> 20} MB free, saw {self._free_bytes >> 20} MB"
            )
