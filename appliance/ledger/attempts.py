"""Decide on a look, write under a guard that the look still holds, and look again where it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from appliance.model.errors import Rejected, Unavailable

DoneT = TypeVar("DoneT")


async def look_again(
    attempt: Callable[[], Awaitable[DoneT]], *, after: str, times_max: int, busy: Unavailable
) -> DoneT:
    """What `attempt` comes to once nothing came between its look and its write.

    Args:
        after: the code by which its guard says that something came between; nobody outside hears it.
    Raises:
        Rejected: what `attempt` is refused with otherwise.
        Unavailable: `busy`, when something came between each time.
    """
    for _ in range(times_max):
        try:
            return await attempt()
        except Rejected as refusal:
            if refusal.code != after:
                raise
    raise busy
