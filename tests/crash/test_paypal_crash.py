"""The box is killed at every line of a PayPal payment: it has one end, the true one, and is never charged twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import wallet
from tests.crash.asks import ANSWER_MS
from tests.crash.shop import CrashShop, Twin
from tests.crash.wallet import check, pay, pay_and_die, shown

WAIT_MS = 20_000


@pytest.fixture(scope="module")
def paypal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    started = Twin(tmp_path_factory.mktemp("paypal"), "provisioning.sandbox.paypal_twin")
    yield started
    started.close()


async def set_up(shop: CrashShop, paypal: Twin, *, does: str = "agree", after_ms: int = 300) -> None:
    """The settings name PayPal from the next start on, and payers act by themselves."""
    settings: dict[str, object] = {"api_base": paypal.base, "client_id": "client-of-a-test"}
    settings |= {"client_secret_path": "{secret}", "customer_wait_ms": WAIT_MS}
    wallet.set_up(shop, "paypal", "paypal-secret", "a-secret-of-a-test", settings)
    await paypal.control("POST", "customer", {"does": does, "after_ms": after_ms})


@pytest.mark.parametrize(
    ("point", "final"),
    [
        ("before intent", "approved"),
        ("after intent", "declined"),
        ("before offer", "declined"),
        ("after offer", "declined"),
        ("before outcome", "declined"),  # the order has a name, and nobody was shown it
        ("after outcome", "approved"),
        ("before outcome 2", "approved"),  # the customer agreed
        ("after outcome 2", "not_charged"),
        ("before ask", "not_charged"),
        ("after ask", "approved"),
        ("before outcome 3", "approved"),
        ("after outcome 3", "approved"),
    ],
)
async def test_killed_anywhere_a_payment_has_one_end(
    shop: CrashShop, paypal: Twin, tmp_path: Path, point: str, final: str
) -> None:
    await set_up(shop, paypal)
    key, answer = await pay_and_die(shop, point)
    assert answer.state == final
    assert len(await paypal.charges(str(key))) == (final == "approved")
    await check(shop, paypal, key, final, tmp_path / "copy")


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "error_after_processing", "truncated_json"])
async def test_a_lost_capture_has_one_end(shop: CrashShop, paypal: Twin, tmp_path: Path, fault: str) -> None:
    await set_up(shop, paypal, does="wait")
    await shop.start()
    async with shop.till() as client, asyncio.TaskGroup() as tasks:
        key = client.new_key()
        asking = tasks.create_task(pay(client, key, ANSWER_MS))
        order = (await shown(client, key)).partition("token=")[2]
        await paypal.fault(fault, path="/v2/checkout/orders/", method="POST")
        await paypal.control("POST", f"orders/{order}/agree", {})
        answer = await asking
    final = "not_charged" if fault == "drop_request" else "approved"
    assert answer.state == final
    assert len(await paypal.charges(str(key))) == (final == "approved")
    await check(shop, paypal, key, final, tmp_path / "copy")


@pytest.mark.parametrize("point", ["after intent", "before ask", "after ask", "before outcome", "after outcome"])
async def test_a_refund_of_a_part_is_given_once(shop: CrashShop, paypal: Twin, tmp_path: Path, point: str) -> None:
    await set_up(shop, paypal)
    await wallet.refund_once(shop, paypal, point, tmp_path / "copy")
