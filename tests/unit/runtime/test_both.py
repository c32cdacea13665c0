"""Owns the promise that two waits at once end together."""

from __future__ import annotations

import asyncio

import pytest

from appliance.model.errors import Unavailable
from appliance.runtime.both import both


async def test_both_results_come_in_order() -> None:
    async def late(gate: asyncio.Event) -> int:
        await gate.wait()
        return 1

    async def early(gate: asyncio.Event) -> str:
        gate.set()
        return "two"

    gate = asyncio.Event()
    assert await both(late(gate), early(gate)) == (1, "two")


@pytest.mark.parametrize("failing", ["first", "second"])
async def test_an_error_waits_for_the_other_to_end(failing: str) -> None:
    ended = asyncio.Event()

    async def fails() -> int:
        raise Unavailable("hsm_away", "no token")

    async def works() -> int:
        await asyncio.sleep(0)
        ended.set()
        return 1

    pair = (fails(), works()) if failing == "first" else (works(), fails())
    with pytest.raises(Unavailable, match="no token"):
        await both(*pair)
    assert ended.is_set()


async def test_cancelling_cancels_both() -> None:
    cancelled = []

    async def waits(name: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await both(waits("first"), waits("second"))
    assert cancelled == ["first", "second"]
