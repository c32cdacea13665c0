"""`kill -9` at random moments under load: 200 times by default, SOAK_KILLS times with `make soak`.

SOAK_SEED repeats a campaign's choices; the moments themselves depend on the machine.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.crash.invariants import check_log, check_money
from tests.crash.sellers import Books, Seller
from tests.crash.shop import CrashShop, Nursery, Twin, copy_shop

KILLS = int(os.environ.get("SOAK_KILLS", "200"))
SEED = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(10**9))))
CHECKS = 20
SALES_AT_ONCE = 3  # per till: most of a sale's time it waits, for a box that is down or a provider that is silent
SHOP_KILLS_MAX = 500  # then another shop: a long listing at the twin would make all of a life a wait
LIFE_S = 0.5
LONG_LIFE_S = 2.5
START_S = 0.3

FAULTS = (
    "drop_request",
    "drop_reply",
    "hang_after_processing",
    "error_then_success",
    "error_after_processing",
    "truncated_json",
    "truncated_reply",
    "rate_limited",
    "wrong_amount",
)
"""Not `hold` and a long `delay`: with a settle time of a second, a request that travels longer is taken for absent."""


class Campaign:
    """One shop, two tills, many deaths."""

    def __init__(self, shop: CrashShop, copy: Path, seed: int) -> None:
        self._shop = shop
        self._copy = copy
        self._random = random.Random(seed)
        self._books = Books()

    async def run(self, kills: int) -> Books:
        async with AsyncExitStack() as stack:
            tills = [await stack.enter_async_context(self._shop.till(name)) for name in ("till-1", "till-2")]
            sellers = [Seller(till, self._books, self._random) for till in tills for _ in range(SALES_AT_ONCE)]
            async with asyncio.TaskGroup() as tasks:
                for seller in sellers:
                    tasks.create_task(seller.run())
                for number in range(1, kills + 1):
                    await self._live_and_die()
                    if number % max(1, kills // CHECKS) == 0:
                        await self._check()
                await self._shop.twin.heal()
                await self._shop.start()
                for seller in sellers:
                    seller.is_over = True
        await self._shop.kill()
        await self._check()
        return self._books

    async def _live_and_die(self) -> None:
        """One life: some die while they start, most while they sell, a few live long enough to prove an absence."""
        if self._random.random() < 0.15:
            self._shop.launch()
            await asyncio.sleep(self._random.uniform(0, START_S))
        else:
            await self._shop.start()
            await self._make_trouble(self._shop.twin)
            is_long = self._random.random() < 0.1
            await asyncio.sleep(self._random.uniform(0, LONG_LIFE_S if is_long else LIFE_S))
        await self._shop.kill()

    async def _make_trouble(self, twin: Twin) -> None:
        if self._random.random() < 0.5:
            await twin.heal()
        if self._random.random() < 0.6:
            fault, method = self._random.choice(FAULTS), self._random.choice(("POST", "POST", "GET"))
            await twin.fault(fault, method=method, times=self._random.randint(1, 3))

    async def _check(self) -> None:
        """The box is down: nothing moves but the requests that the twin still works on, and those are quick."""
        told, refused = list(self._books.told), set(self._books.refused)
        payments = await asyncio.to_thread(check_log, self._shop, self._copy, told, refused)
        charges = await self._shop.twin.charges()
        # Other shops charge at this twin too.
        ours = payments.keys() | set(self._books.payments)
        check_money(payments, [each for each in charges if each["metadata"]["tillstone_payment"] in ours])


async def run_campaign(shop: CrashShop, copy: Path, kills: int, seed: int = SEED) -> None:
    print(f"{kills} kills, SOAK_SEED={seed}", flush=True)
    try:
        books = await Campaign(shop, copy, seed).run(kills)
    except BaseException as error:
        error.add_note(f"SOAK_SEED={seed}")
        raise
    finally:
        await shop.kill()
    print(f"{len(books.payments)} payments asked for, {len(books.told)} final answers, {len(books.refused)} refusals")
    assert books.told


@pytest.mark.soak
def test_killed_at_random_moments_under_load_nobody_is_cheated(
    template: Path, tmp_path: Path, nursery: Nursery
) -> None:
    for number, begun in enumerate(range(0, KILLS, SHOP_KILLS_MAX)):
        path = tmp_path / str(number)
        path.mkdir()
        twin = Twin(path)
        try:
            shop = copy_shop(template, path / "shop", nursery, twin)
            asyncio.run(run_campaign(shop, path / "copy", min(SHOP_KILLS_MAX, KILLS - begun), SEED + number))
        finally:
            twin.close()
        shutil.rmtree(path)
