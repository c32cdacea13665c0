"""Every answer of a burst is heard."""

from __future__ import annotations

import asyncio
import gc

import pytest

from appliance.ledger.burst import hear
from appliance.ledger.draft import Recorded
from appliance.model.errors import Rejected, Unavailable


async def test_a_failure_leaves_no_answer_unheard() -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    futures: list[asyncio.Future[tuple[Recorded, ...]]] = [loop.create_future() for _ in range(3)]
    for future in futures:
        future.set_exception(Unavailable("disk_full", "the disk is full"))

    with pytest.raises(Unavailable, match="disk_full"):
        await hear(futures, None)

    del future, futures
    gc.collect()
    assert reported == []


async def test_a_refusal_is_an_answer_like_any_other() -> None:
    loop = asyncio.get_running_loop()
    refused, taken = loop.create_future(), loop.create_future()
    refused.set_exception(Rejected("key_used", "this key was used"))
    taken.set_result(())

    first, second = await hear([refused, taken], None)

    assert isinstance(first, Rejected)
    assert second == ()
