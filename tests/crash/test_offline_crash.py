"""The box is killed at every line of a card that is accepted offline and forwarded: no bank is asked twice for one
card, none that was accepted is forgotten, and what a till was told stays true.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.local_door import LocalDoor
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS
from tests.crash.invariants import Told, check_log
from tests.crash.pad import PadCard, read_pad, write_pad
from tests.crash.shop import CrashShop

LAST_WORDS_MS = 5_000
WAIT_S = 40.0


class Pad:
    """The pad of a crash shop, from outside."""

    def __init__(self, shop: CrashShop) -> None:
        self.path = shop.path / "pad.json"
        shop.environment["PAD"] = str(self.path)
        write_pad(self.path, read_pad(self.path))

    def set(self, **changed: Any) -> None:
        write_pad(self.path, replace(read_pad(self.path), **changed))

    def cards(self) -> list[PadCard]:
        return list(read_pad(self.path).cards.values())


async def pay(client: TerminalClient, key: RequestKey, wait_ms: int) -> PaymentAnswer:
    body = PaymentBody(currency="EUR", tenders=(TenderBody(kind="pin_pad", amount_minor=AMOUNT),), amount_minor=AMOUNT)
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


async def sold(shop: CrashShop) -> RequestKey:
    """A card that was accepted offline; the box is down again."""
    await shop.start()
    async with shop.till() as client:
        key = client.new_key()
        assert (await pay(client, key, ANSWER_MS)).state == "accepted_offline"
    await shop.kill()
    return key


async def stands(shop: CrashShop, key: RequestKey, state: str) -> None:
    """Wait until the till hears `state`."""
    until = time.monotonic() + WAIT_S
    async with shop.till() as client:
        while (answer := await client.status(key, deadline=client.deadline(ANSWER_MS))).state != state:
            assert time.monotonic() < until, answer
            await asyncio.sleep(0.05)


async def check(shop: CrashShop, key: RequestKey, told: str, copy: Path) -> str:
    """How the payment stands in the log, whose every invariant holds."""
    await shop.kill()
    payments = await asyncio.to_thread(check_log, shop, copy, [Told(key=str(key), payment=str(key), state=told)])
    return payments[str(key)].state


@pytest.mark.parametrize(
    ("point", "final"),
    [
        ("before intent", "accepted_offline"),
        ("after intent", "not_charged"),
        ("before ask", "not_charged"),
        ("after ask", "accepted_offline"),
        ("before outcome", "accepted_offline"),
        ("after outcome", "accepted_offline"),
    ],
)
async def test_killed_anywhere_a_card_is_accepted_once_or_not_at_all(
    shop: CrashShop, tmp_path: Path, point: str, final: str
) -> None:
    pad = Pad(shop)
    await shop.start(point)
    async with shop.till() as client:
        key = client.new_key()
        with suppress(OutcomeUnknown, Unavailable, Rejected):
            await pay(client, key, LAST_WORDS_MS)
        assert await shop.died() == point
    await shop.start()
    async with shop.till() as client:
        answer = await pay(client, key, ANSWER_MS)
    assert answer.state == final
    assert [each.state for each in pad.cards()] == (["accepted"] if final == "accepted_offline" else [])
    assert await check(shop, key, final, tmp_path / "copy") == final


@pytest.mark.parametrize("says_no", [False, True], ids=["agrees", "declines"])
@pytest.mark.parametrize(
    "point", ["before intent", "after intent", "before ask", "after ask", "before outcome", "after outcome"]
)
async def test_killed_anywhere_a_bank_is_asked_once(shop: CrashShop, tmp_path: Path, point: str, says_no: bool) -> None:
    pad = Pad(shop)
    key = await sold(shop)
    pad.set(is_bank_down=False, says_no=says_no)
    shop.launch(point)
    assert await shop.died() == point
    await shop.start()
    final = "declined_after_handover" if says_no else "approved"
    await stands(shop, key, final)
    (card,) = pad.cards()
    assert (card.state, card.asked) == ("declined" if says_no else "charged", 1)
    assert await check(shop, key, "accepted_offline", tmp_path / "copy") == final


@pytest.mark.parametrize(
    "point",
    [
        "before reversal_wanted",
        "after reversal_wanted",
        "before intent 2",  # at the start the bank is asked in vain, which is the first
        "after intent 2",
        "after ask 2",
        "before outcome 2",
        "after outcome 2",
    ],
)
@pytest.mark.parametrize("keeps", [False, True], ids=["forgets", "keeps"])
async def test_killed_anywhere_a_reversal_keeps_no_money(
    shop: CrashShop, tmp_path: Path, point: str, keeps: bool
) -> None:
    pad = Pad(shop)
    key = await sold(shop)
    pad.set(keeps=keeps)
    await shop.start(point)
    async with shop.till() as client:
        back = client.new_key()
        with suppress(OutcomeUnknown, Unavailable, Rejected):
            await client.reversal(key, key=back, deadline=client.deadline(LAST_WORDS_MS))
        assert await shop.died() == point.removesuffix(" 2")
    pad.set(is_bank_down=not keeps)
    await shop.start()
    async with shop.till() as client:
        answer = await client.reversal(key, key=back, deadline=client.deadline(ANSWER_MS))
    assert answer.state == "reversed"
    (card,) = pad.cards()
    charged = card.minor if card.state == "charged" else 0
    assert charged == card.refunded
    assert card.asked == int(keeps)
    assert await check(shop, key, "reversed", tmp_path / "copy") == "reversed"


async def test_the_exposure_survives_a_power_cut_and_is_told_to_owner_and_machines(
    shop: CrashShop, tmp_path: Path
) -> None:
    pad = Pad(shop)
    key = await sold(shop)
    await shop.start()
    told = await asyncio.to_thread(LocalDoor(shop.data).status)
    (finding,) = [each for each in told["findings"] if each["check"] == "offline"]
    assert finding["sentence"].startswith("1 card, 12.50 EUR, accepted offline and not confirmed by its bank")
    doors = json.loads((shop.data / "doors.json").read_text())
    async with aiohttp.request("GET", f"http://127.0.0.1:{doors['public']}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    assert 'tillstone_offline_minor{state="accepted"} 1250.0' in lines
    assert "tillstone_offline_payments 1.0" in lines
    pad.set(is_bank_down=False)
    await stands(shop, key, "approved")
    assert await check(shop, key, "approved", tmp_path / "copy") == "approved"
