"""A pause that can be cut short: somebody waits for a time or for a bell, whichever comes first."""

from __future__ import annotations

import asyncio

from appliance.ports.clock import Clock


async def nap(clock: Clock, duration_ms: int, bell: asyncio.Event) -> None:
    """Sleep until `bell` is set or the time is over, and leave the bell unset."""
    async with asyncio.TaskGroup() as group:
        both = (
            group.create_task(clock.sleep(duration_ms), name="nap"),
            group.create_task(bell.wait(), name="nap's bell"),
        )
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
    bell.clear()
