"""A tamper contact that the kernel shows as a file of one digit: hwmon's `intrusion0_alarm`, or a file in a sandbox.

0 is closed, 1 is open or was since the last reset: boards latch an opening, many of them on the battery of their clock,
also while the box is off. Writing 0 resets the latch; a case that is still open sets it again.

Source: Documentation/hwmon/sysfs-interface.rst of Linux, "Intrusion detection".
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from drivers.board.errors import ContactUnreadable

_READ_BYTES_MAX: Final = 16


class FileContact:
    """One file.

    Args:
        debounce_s: an opening counts when it is still there so much later.
    """

    def __init__(self, path: Path, *, debounce_s: float) -> None:
        self._path = path
        self._debounce_s = debounce_s

    def is_open(self) -> bool:
        """Whether the case is open, or was since the last reset. Raises ContactUnreadable."""
        if not self._reads_open():
            return False
        time.sleep(self._debounce_s)
        return self._reads_open()

    def reset(self) -> None:
        """Forget an opening that is over. Raises ContactUnreadable."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)  # never makes the file
            try:
                os.pwrite(descriptor, b"0\n", 0)
            finally:
                os.close(descriptor)
        except OSError as cause:
            raise ContactUnreadable(f"{self._path.name} cannot be reset: {cause.strerror}") from cause

    def close(self) -> None:
        """Nothing is held open."""

    def _reads_open(self) -> bool:
        try:
            with self._path.open("rb") as file:
                said = file.read(_READ_BYTES_MAX).strip()
        except OSError as cause:
            raise ContactUnreadable(f"{self._path.name} cannot be read: {cause.strerror}") from cause
        if said not in (b"0", b"1"):
            raise ContactUnreadable(f"{self._path.name}: expected 0 or 1, saw {said[:4]!r}")
        return said == b"1"
