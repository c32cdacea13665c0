"""The box is killed at every line of a payment at a PIN pad, and the pad's line is cut behind each of its messages: one
end, the true one, and no card is charged twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer
from provisioning.terminal.client import TerminalClient
from tests.crash import wallet
from tests.crash.asks import AMOUNT, ANSWER_MS, PART
from tests.crash.invariants import Told, check_log
from tests.crash.shop import CrashShop
from tests.pin_pad_here import PinPadHere
from tests.until import until

LAST_WORDS_MS: Final = 5_000
BEFORE: Final = 500
MESSAGES: Final = 6  # of a payment: accepted, two texts, status, slip, completion


@pytest.fixture
async def pad() -> AsyncIterator[PinPadHere]:
    async with PinPadHere() as here:
        here.use_by_hand(BEFORE)
        yield here


@pytest.fixture
def sold(shop: CrashShop, pad: PinPadHere) -> CrashShop:
    """The settings name the PIN pad from the next start on."""
    settings: dict[str, object] = {"password_path": "{secret}", "answer_ms": 2_000}
    settings |= {"pads": [f"counter tcp:{pad.address.removeprefix('socket://')}"]}
    settings |= {"tills": ["till-1 counter", "till-2 counter"]}
    wallet.set_up(shop, "pin_pad", "pin-pad-password", "000000", settings)
    return shop


async def pay(client: TerminalClient, key: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await wallet.pay(client, key, wait_ms, "pin_pad")


async def check(shop: CrashShop, pad: PinPadHere, key: RequestKey, state: str, kept_minor: int, copy: Path) -> None:
    assert pad.twin.kept_minor == BEFORE + kept_minor
    assert len([each for each in pad.twin.taken if each.kind == "payment"]) == 1 + (kept_minor > 0)
    await shop.kill()
    await asyncio.to_thread(check_log, shop, copy, [Told(key=str(key), payment=str(key), state=state)])


@pytest.mark.parametrize(
    ("point", "final"),
    [
        ("before intent", "approved"),
        ("after intent", "declined"),
        ("before offer", "declined"),
        ("after offer", "declined"),
        ("before outcome", "declined"),
        ("after outcome", "declined"),  # its name is durable, and the card was not asked for
        ("before outcome 2", "declined"),
        ("after outcome 2", "not_charged"),
        ("before ask", "not_charged"),
        ("after ask", "approved"),
        ("before outcome 3", "approved"),
        ("after outcome 3", "approved"),
    ],
)
async def test_killed_anywhere_a_payment_has_one_end(
    sold: CrashShop, pad: PinPadHere, tmp_path: Path, point: str, final: str
) -> None:
    key, answer = await wallet.pay_and_die(sold, point, "pin_pad")
    assert answer.state == final
    await check(sold, pad, key, final, AMOUNT * (final == "approved"), tmp_path / "copy")


@pytest.mark.parametrize(("customer", "final"), [("timeout", "not_charged"), ("silent", "approved")])
async def test_killed_while_the_customer_is_at_the_pin_pad(
    sold: CrashShop, pad: PinPadHere, tmp_path: Path, customer: str, final: str
) -> None:
    pad.twin.customer = lambda: customer
    await sold.start()
    async with sold.till() as client, asyncio.TaskGroup() as tasks:
        key = client.new_key()
        asking = tasks.create_task(lost(client, key))
        await until("a customer at the PIN pad", lambda: pad.twin.is_busy or len(pad.twin.taken) > 1)
        await sold.kill()
        await asking
    pad.twin.customer = lambda: "approve"
    await sold.start()
    async with sold.till() as client:
        answer = await pay(client, key, ANSWER_MS)
    assert answer.state == final
    assert not pad.twin.is_busy  # the next customer finds it free
    await check(sold, pad, key, final, AMOUNT * (final == "approved"), tmp_path / "copy")


async def test_killed_while_the_payment_is_stopped(sold: CrashShop, pad: PinPadHere, tmp_path: Path) -> None:
    pad.twin.customer = lambda: "timeout"
    stopped: list[bool] = []
    pad.twin.on_abort = lambda: stopped.append(True)
    await sold.start()
    async with sold.till() as client, asyncio.TaskGroup() as tasks:
        key, abort = client.new_key(), client.new_key()
        asking = tasks.create_task(lost(client, key))
        await until("a customer at the PIN pad", lambda: pad.twin.is_busy)
        with suppress(OutcomeUnknown, Unavailable):
            await client.abort(key, key=abort, deadline=client.deadline(LAST_WORDS_MS))
        await until("a PIN pad that was stopped", lambda: bool(stopped))
        await sold.kill()
        await asking
    pad.twin.customer = lambda: "approve"
    await sold.start()
    async with sold.till() as client:
        answer = await pay(client, key, ANSWER_MS)
    assert answer.state in ("not_charged", "declined")
    await check(sold, pad, key, answer.state, 0, tmp_path / "copy")


async def lost(client: TerminalClient, key: RequestKey) -> None:
    """Ask a box that ends before it answers, or answers what is no end."""
    with suppress(OutcomeUnknown, Unavailable, Rejected):
        await pay(client, key, LAST_WORDS_MS)


@pytest.mark.parametrize("after", range(MESSAGES))
async def test_a_line_that_is_cut_at_any_message_is_found_out(
    sold: CrashShop, pad: PinPadHere, tmp_path: Path, after: int
) -> None:
    pad.twin.cuts_in_money = after
    await sold.start()
    async with sold.till() as client:
        key = client.new_key()
        answer = await pay(client, key, ANSWER_MS)
    assert answer.state == "approved"
    await check(sold, pad, key, "approved", AMOUNT, tmp_path / "copy")


@pytest.mark.parametrize("point", ["after intent", "before ask", "after ask", "before outcome", "after outcome"])
async def test_a_refund_of_a_part_is_given_once(sold: CrashShop, pad: PinPadHere, tmp_path: Path, point: str) -> None:
    key = await wallet.refund_and_die(sold, point, "pin_pad")
    await check(sold, pad, key, "partly_refunded", AMOUNT - PART, tmp_path / "copy")
