"""The box is killed while a customer stands at the card reader: the payment has one end, and it is the true one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS, check_all
from tests.crash.invariants import Told
from tests.crash.shop import START_S_MAX, CrashShop
from tests.stripe_twin import KEY

WAIT_MS = 5_000
LEFT_MS = 60_000  # past the customer's time and the time for withdrawing


async def api(shop: CrashShop, method: str, path: str, **form: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"{shop.twin.base}/v1/{path}", data=form or None, headers=headers) as answer,
    ):
        found: dict[str, Any] = await answer.json()
        return found


async def bind_reader(shop: CrashShop, **customer: Any) -> str:
    """A reader of till-1 with somebody at it; the settings know it at the next start."""
    made = await api(shop, "POST", "terminal/readers", registration_code="simulated-wpe")
    await shop.twin.control("POST", f"readers/{made['id']}", customer)
    file = shop.folder.box / "tillstone.toml"
    bound = f'readers = ["till-1 {made["id"]}"]\nreader_wait_ms = {WAIT_MS}'
    file.write_text(file.read_text().replace('readers = "[]"', bound).replace("readers = []", bound))
    assert made["id"] in file.read_text()
    return str(made["id"])


async def pay(client: TerminalClient, key: RequestKey, wait_ms: int) -> PaymentAnswer:
    tender = TenderBody(kind="card", amount_minor=AMOUNT, source="reader")
    body = PaymentBody(currency="EUR", tenders=(tender,), amount_minor=AMOUNT)
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


async def kill_at_the_reader(shop: CrashShop, reader: str) -> RequestKey:
    """Sell, and kill the box once the reader shows the payment."""

    async def is_shown() -> bool:
        return (await api(shop, "GET", f"terminal/readers/{reader}"))["action"] is not None

    return await kill_when(shop, is_shown)


async def kill_when(shop: CrashShop, is_there: Callable[[], Awaitable[bool]]) -> RequestKey:
    """Sell, and kill the box once `is_there`."""

    async def attempt(client: TerminalClient, key: RequestKey) -> None:
        try:
            await pay(client, key, ANSWER_MS)
        except (OutcomeUnknown, Unavailable):
            return

    await shop.start()
    until = time.monotonic() + START_S_MAX
    async with shop.till() as client, asyncio.TaskGroup() as tasks:
        key = client.new_key()
        asking = tasks.create_task(attempt(client, key))
        while not await is_there():
            assert time.monotonic() < until, shop.log
            await asyncio.sleep(0.01)
        await shop.kill()
        asking.cancel()
    return key


async def test_a_customer_who_taps_after_the_crash_is_charged_once_and_the_till_is_told(
    shop: CrashShop, tmp_path: Path
) -> None:
    reader = await bind_reader(shop, does="approve", after_ms=2_000)
    key = await kill_at_the_reader(shop, reader)
    await shop.start()
    async with shop.till() as client:
        assert (await pay(client, key, ANSWER_MS)).state == "approved"
    assert len(await shop.twin.charges(str(key))) == 1
    await check_all(shop, [Told(key=str(key), payment=str(key), state="approved")], tmp_path / "copy")


@pytest.mark.parametrize("first", ["restart", "time"])
async def test_a_customer_who_left_is_never_charged_and_the_reader_is_free(
    shop: CrashShop, tmp_path: Path, first: str
) -> None:
    reader = await bind_reader(shop, does="walk_away")
    key = await kill_at_the_reader(shop, reader)
    if first == "restart":
        await shop.start()
    await shop.twin.control("POST", "clock", {"advance_ms": LEFT_MS})
    if first == "time":
        await shop.start()
    async with shop.till() as client:
        answer = await pay(client, key, ANSWER_MS)
    await shop.twin.control("POST", "clock", {"advance_ms": -LEFT_MS})
    assert (answer.state, answer.code) == ("declined", "customer_timeout")
    assert await shop.twin.charges(str(key)) == []
    assert (await api(shop, "GET", f"terminal/readers/{reader}"))["action"] is None
    await check_all(shop, [Told(key=str(key), payment=str(key), state="declined")], tmp_path / "copy")


async def test_a_declined_payment_whose_cancellation_was_lost_with_the_box_is_cancelled_before_it_is_declined(
    shop: CrashShop, tmp_path: Path
) -> None:
    await bind_reader(shop, does="decline", after_ms=0)

    async def payment() -> dict[str, Any]:
        made: list[dict[str, Any]] = (await api(shop, "GET", "payment_intents"))["data"]
        return made[0] if made else {"status": "", "last_payment_error": None}

    async def is_declined() -> bool:
        return (await payment())["last_payment_error"] is not None

    await shop.twin.fault("hang", method="POST", path="/v1/payment_intents/")
    key = await kill_when(shop, is_declined)
    assert (await payment())["status"] == "requires_payment_method"  # the next card would be charged
    await shop.twin.control("DELETE", "faults")
    await shop.start()
    async with shop.till() as client:
        answer = await pay(client, key, ANSWER_MS)
    assert (answer.state, answer.code) == ("declined", "insufficient_funds")
    assert (await payment())["status"] == "canceled"
    await check_all(shop, [Told(key=str(key), payment=str(key), state="declined")], tmp_path / "copy")
