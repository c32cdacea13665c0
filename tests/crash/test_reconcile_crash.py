"""The box dies around a look at a day beside the provider's statement: one entry, with every break, or none."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from appliance.model.errors import Unavailable
from appliance.wire.answers import ReconcileAnswer
from appliance.wire.reconcile_entries import BreakFacts
from provisioning.local_door import LocalDoor
from tests.crash.asks import AMOUNT, ANSWER_MS, check_all, pay_card
from tests.crash.shop import SHOP, START_S_MAX, CrashShop, Nursery, Twin, copy_shop
from tests.stripe_twin import KEY

STRANGE = 777


@pytest.fixture
def shop(template: Path, tmp_path: Path, nursery: Nursery) -> Iterator[CrashShop]:
    """A shop with an account of its own: charges of other tests would be breaks, and of many only 200 are shown."""
    (tmp_path / "twin").mkdir()
    twin = Twin(tmp_path / "twin")
    copied = copy_shop(template, tmp_path / "shop", nursery, twin)
    yield copied
    asyncio.run(copied.kill())
    twin.close()


async def end_a_day(shop: CrashShop) -> None:
    """A card was charged, and somebody else charged one on the same account; the day is over with the next start."""
    await shop.start()
    async with shop.till() as client:
        key = client.new_key()
        assert (await pay_card(client, key, key, ANSWER_MS)).state == "approved"
    form = {"amount": str(STRANGE), "currency": "eur", "confirm": "true", "payment_method": "pm_card_visa"}
    form["metadata[tillstone_payment]"] = "of-the-shop-next-door"
    url, headers = f"{shop.twin.base}/v1/payment_intents", {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession() as http, http.post(url, data=form, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    await shop.kill()
    await asyncio.sleep(1.0)  # a statement's times are whole seconds
    now = datetime.datetime.now(ZoneInfo(SHOP.timezone))
    shop.environment["CUT_OFF"] = now.time().isoformat("milliseconds")


async def look(shop: CrashShop) -> ReconcileAnswer:
    """What the log says of the day, once the statement can be read."""
    async with asyncio.timeout(START_S_MAX):
        while True:
            with suppress(Unavailable):
                return await asyncio.to_thread(LocalDoor(shop.data).reconcile, None)
            await asyncio.sleep(0.1)


def strange(shown: ReconcileAnswer) -> list[BreakFacts]:
    return [each for each in shown.breaks if each.line is not None and each.line.gross == STRANGE]


@pytest.mark.parametrize("point", ["before reconciled", "after reconciled"])
async def test_a_day_is_looked_at_once_wherever_the_box_dies(shop: CrashShop, tmp_path: Path, point: str) -> None:
    await end_a_day(shop)
    shop.launch(point)  # it looks by itself
    assert await shop.died() == point
    await shop.start()
    shown, again = await look(shop), await look(shop)
    assert (shown.day.number, shown.day.here.charged) == (1, AMOUNT)
    assert (shown.open_count, strange(shown)) == (1, list(shown.breaks))
    assert (again.seq, again.is_new, again.breaks) == (shown.seq, False, shown.breaks)
    await check_all(shop, [], tmp_path / "copy")


@pytest.mark.parametrize(("point", "is_open"), [("before break_accepted", True), ("after break_accepted", False)])
async def test_a_break_is_closed_exactly_when_the_entry_is_in_the_log(
    shop: CrashShop, tmp_path: Path, point: str, is_open: bool
) -> None:
    await end_a_day(shop)
    await shop.start(point)
    (found,) = strange(await look(shop))
    with suppress(Unavailable):
        await asyncio.to_thread(LocalDoor(shop.data).accept_break, found.type, found.subject, "the shop next door")
    assert await shop.died() == point
    await shop.start()
    subjects = {each.subject for each in (await look(shop)).breaks}
    assert (found.subject in subjects) is is_open
    await check_all(shop, [], tmp_path / "copy")
