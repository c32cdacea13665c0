"""Waiting, in tests, for what no event tells: bounded in real time, and saying what was awaited when it did not come.

Whatever has an event (a future, a ledger's `wait_beyond`) is awaited by that; a clock of the tests is moved instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

SECONDS_MAX: Final = 40.0  # on a loaded machine too; whoever waits in vain has failed
LOOK_S: Final = 0.002


async def until(awaited: str, is_so: Callable[[], bool], *, look_s: float = LOOK_S) -> None:
    """Return once `is_so`, looking every `look_s`; `awaited` completes the sentence "never came: ..."."""
    end = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < end, f"never came: {awaited}"
        await asyncio.sleep(look_s)


def until_now(awaited: str, is_so: Callable[[], bool], *, look_s: float = 0.05) -> None:
    """The same for tests that block."""
    end = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < end, f"never came: {awaited}"
        time.sleep(look_s)
