"""The box dies around an act at a drawer, a Z, a day's close: each is in the log once, and the next begins there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.model.errors import Unavailable
from appliance.model.ids import RequestKey
from appliance.wire.answers import DayAnswer, DrawerAnswer, ReportAnswer
from appliance.wire.requests import DrawerBody, PaymentBody, ReportBody, TenderBody
from provisioning.local_door import LocalDoor
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import ANSWER_MS
from tests.crash.invariants import check_log
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

FLOAT = DrawerBody(act="float", amount_minor=10_000)
PAID_OUT = DrawerBody(act="paid_out", amount_minor=4_000, reason="milk")
Z = ReportBody(kind="z")
SALE = PaymentBody(currency="EUR", amount_minor=1_250, tenders=(TenderBody(kind="cash", amount_minor=1_250),))


async def pay_out(client: TerminalClient, key: RequestKey, wait_ms: int) -> DrawerAnswer:
    return await client.drawer(PAID_OUT, key=key, deadline=client.deadline(wait_ms))


async def end_period(client: TerminalClient, key: RequestKey, wait_ms: int) -> ReportAnswer:
    return await client.report(Z, key=key, deadline=client.deadline(wait_ms))


async def held(client: TerminalClient) -> int:
    x = await client.report(ReportBody(kind="x"), key=client.new_key(), deadline=client.deadline(ANSWER_MS))
    assert x.period.cash is not None
    return x.period.cash.left


async def begin(shop: CrashShop) -> RequestKey:
    """A float of 100.00 and a sale of 12.50, then the box is stopped."""
    await shop.start()
    async with shop.till() as client:
        await client.drawer(FLOAT, key=client.new_key(), deadline=client.deadline(ANSWER_MS))
        await client.payment(SALE, key=client.new_key(), deadline=client.deadline(ANSWER_MS))
        key = client.new_key()
    await shop.kill()
    return key


@pytest.mark.parametrize("point", ["before drawer_paid_out", "after drawer_paid_out", "signed", "answer drawer"])
async def test_what_was_paid_out_is_paid_out_once_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    key = await begin(shop)

    await die_during(shop, point, lambda client: pay_out(client, key, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        first = await pay_out(client, key, ANSWER_MS)
        again = await pay_out(client, key, ANSWER_MS)
        assert (first.seq, first.held_minor) == (again.seq, 7_250)
        assert await held(client) == 7_250
    await shop.kill()
    await asyncio.to_thread(check_log, shop, tmp_path / "copy", [])


@pytest.mark.parametrize("point", ["before drawer_closed", "after drawer_closed", "signed", "answer report"])
async def test_a_period_is_closed_once_wherever_the_box_dies(shop: CrashShop, tmp_path: Path, point: str) -> None:
    key = await begin(shop)

    await die_during(shop, point, lambda client: end_period(client, key, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        first = await end_period(client, key, ANSWER_MS)
        again = await end_period(client, key, ANSWER_MS)
        assert (first.seq, first.period) == (again.seq, again.period)
        assert (first.period.number, first.period.totals.total) == (1, 1_250)
        assert await held(client) == 11_250
    await shop.kill()
    await asyncio.to_thread(check_log, shop, tmp_path / "copy", [])


@pytest.mark.parametrize("point", ["before day_closed", "after day_closed", "answer local_day_close"])
async def test_a_day_is_closed_once_wherever_the_box_dies(shop: CrashShop, tmp_path: Path, point: str) -> None:
    await begin(shop)
    local = LocalDoor(shop.data)
    await shop.start(die_at=point)
    with suppress(Unavailable):
        await asyncio.to_thread(local.close_day)
    assert await shop.died() == point
    await shop.start()
    first: DayAnswer = await asyncio.to_thread(local.close_day)
    again: DayAnswer = await asyncio.to_thread(local.close_day)
    assert (first.seq, first.day, again.is_new) == (again.seq, again.day, False)
    assert first.is_new is (point == "before day_closed")
    assert (first.day.period.number, first.day.period.totals.total) == (1, 1_250)
    standing = await asyncio.to_thread(local.day)
    assert standing.day.period.cash is not None
    assert (standing.day.period.number, standing.day.period.cash.opening) == (2, 11_250)
    await shop.kill()
    await asyncio.to_thread(check_log, shop, tmp_path / "copy", [])
