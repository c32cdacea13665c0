"""The box is killed at every line of a USDC payment, which the customer makes himself: it has one end, the true one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from tests.coinbase_twin_here import NAME, key_file, public_key
from tests.crash import wallet
from tests.crash.asks import ANSWER_MS
from tests.crash.shop import CrashShop, Twin
from tests.crash.wallet import LAST_WORDS_MS, check, pay, pay_and_die, shown

WAIT_MS = 10_000


@pytest.fixture
async def coinbase(tmp_path: Path) -> AsyncIterator[Twin]:
    folder = tmp_path / "coinbase"
    folder.mkdir()
    started = Twin(folder, "provisioning.sandbox.coinbase_twin")
    await started.control("POST", "key", {"name": NAME, "public_key": public_key()})
    yield started
    started.close()


async def set_up(shop: CrashShop, coinbase: Twin, *, does: str = "pay", after_ms: int = 300) -> None:
    """The settings name Coinbase from the next start on, and customers act by themselves."""
    settings: dict[str, object] = {"api_base": coinbase.base, "key_name": NAME}
    settings |= {"key_path": "{secret}", "customer_wait_ms": WAIT_MS}
    wallet.set_up(shop, "coinbase", "coinbase-key", key_file().decode(), settings)
    await coinbase.control("POST", "customer", {"does": does, "after_ms": after_ms})


@pytest.mark.parametrize(
    ("point", "does", "final"),
    [
        ("before intent", "pay", "approved"),
        ("after intent", "pay", "not_charged"),
        ("before ask", "pay", "not_charged"),
        ("before outcome", "wait", "declined"),  # the checkout has a name, and nobody was shown its address
        ("before outcome", "pay", "approved"),  # nobody was shown it, and it was paid: money that came is money
        ("after outcome", "pay", "approved"),  # paid while the box was dead
        ("after outcome", "wait", "declined"),  # withdrawn when the customer's time was over
        ("after ask", "pay", "approved"),
        ("before outcome 2", "pay", "approved"),
        ("after outcome 2", "pay", "approved"),
    ],
)
async def test_killed_anywhere_a_payment_has_one_end(
    shop: CrashShop, coinbase: Twin, tmp_path: Path, point: str, does: str, final: str
) -> None:
    await set_up(shop, coinbase, does=does)
    key, answer = await pay_and_die(shop, point, "usdc")
    assert answer.state == final
    assert len(await coinbase.charges(str(key))) == (final == "approved")
    await check(shop, coinbase, key, final, tmp_path / "copy")


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "error_after_processing", "truncated_json"])
async def test_a_checkout_whose_answer_is_lost_has_one_end(
    shop: CrashShop, coinbase: Twin, tmp_path: Path, fault: str
) -> None:
    await set_up(shop, coinbase, does="wait")
    await shop.start()
    await coinbase.fault(fault, path="/api/v1/checkouts", method="POST")
    async with shop.till() as client:
        key = client.new_key()
        answer = await pay(client, key, ANSWER_MS, "usdc")
    final = "not_charged" if fault == "drop_request" else "declined"
    assert (answer.state, await coinbase.charges(str(key))) == (final, [])
    await check(shop, coinbase, key, final, tmp_path / "copy")


@pytest.mark.parametrize(
    "point", ["", "before outcome 2", "after reversal_wanted", "after intent 2", "before outcome 3"]
)
async def test_a_till_that_stops_while_the_customer_pays_gives_it_back(
    shop: CrashShop, coinbase: Twin, tmp_path: Path, point: str
) -> None:
    await set_up(shop, coinbase, does="wait")
    await shop.start(point)
    async with shop.till() as client, asyncio.TaskGroup() as tasks:
        key = client.new_key()
        asking = tasks.create_task(quietly(pay(client, key, ANSWER_MS, "usdc")))
        checkout = (await shown(client, key)).rpartition("pl_")[2]
        await coinbase.control("POST", f"checkouts/{checkout}/pay", {"confirm_ms": 3_000})
        with suppress(OutcomeUnknown, Unavailable):
            await client.abort(key, key=client.new_key(), deadline=client.deadline(LAST_WORDS_MS))
        if point:
            asking.cancel()
            await shop.died()
    if point:
        await shop.start()
    async with shop.till() as client:
        answer = await pay(client, key, ANSWER_MS, "usdc")
    (charge,) = await coinbase.charges(str(key))
    assert (answer.state, charge["captured"] - charge["refunded"]) == ("reversed", 0)
    await check(shop, coinbase, key, "reversed", tmp_path / "copy")


@pytest.mark.parametrize("point", ["before contradicted", "after contradicted"])
async def test_money_that_came_after_the_end_is_written_down_once(
    shop: CrashShop, coinbase: Twin, tmp_path: Path, point: str
) -> None:
    await set_up(shop, coinbase, does="wait")
    await shop.start()
    async with shop.till() as client, asyncio.TaskGroup() as tasks:
        key = client.new_key()
        asking = tasks.create_task(pay(client, key, ANSWER_MS, "usdc"))
        checkout = (await shown(client, key)).rpartition("pl_")[2]
        await client.abort(key, key=client.new_key(), deadline=client.deadline(LAST_WORDS_MS))
        assert (await asking).state == "declined"
    await shop.kill()
    await coinbase.control("POST", f"checkouts/{checkout}/pay", {"paying": "late"})
    await shop.start(point)
    assert await shop.died() == point  # a start looks back at once
    await shop.start()
    until = asyncio.get_running_loop().time() + 20
    while '"event":"payment.contradicted"' not in shop.log and point == "before contradicted":
        assert asyncio.get_running_loop().time() < until, shop.log
        await asyncio.sleep(0.05)
    await shop.kill()
    rows = await asyncio.to_thread(told, shop.data / "ledger.db")
    assert rows == [(f"{key}/0", "coinbase", 1250)]


def told(database: Path) -> list[tuple[object, ...]]:
    """What the box's tables say of contradictions."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT operation, provider, amount FROM contradictions").fetchall()


async def quietly(asking: object) -> None:
    """A till that is answered by nobody any more."""
    assert asyncio.iscoroutine(asking)
    with suppress(OutcomeUnknown, Unavailable, Rejected):
        await asking


@pytest.mark.parametrize("point", ["after intent", "before ask", "after ask", "before outcome", "after outcome"])
async def test_a_refund_of_a_part_is_given_once(shop: CrashShop, coinbase: Twin, tmp_path: Path, point: str) -> None:
    await set_up(shop, coinbase)
    await coinbase.control("POST", "refunds", {"after_ms": 500})
    await wallet.refund_once(shop, coinbase, point, tmp_path / "copy", "usdc")
