"""The box dies around a refusal of screening, or a change of its thresholds: no money moved, the log is right."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from provisioning.local_door import LocalDoor
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS, check_all, pay_card
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

STRICT: dict[str, int | str] = {"sale_ceiling_mode": "refuse", "sale_ceiling_minor": AMOUNT - 1}


async def change(shop: CrashShop, changes: dict[str, int | str]) -> None:
    await asyncio.to_thread(LocalDoor(shop.data).change_screening, changes)


async def thresholds(shop: CrashShop) -> dict[str, object]:
    shown = await asyncio.to_thread(LocalDoor(shop.data).screening)
    return {each["name"]: each["value"] for each in shown["thresholds"] if each["name"] in STRICT}


@pytest.mark.parametrize("point", ["before screening_refused", "after screening_refused", "answer payment"])
async def test_a_refused_card_is_never_charged_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    await shop.start()
    await change(shop, STRICT)
    async with shop.till() as client:
        key = client.new_key()
    await shop.kill()

    async def last_words(client: TerminalClient) -> None:
        with suppress(Rejected):
            await pay_card(client, key, key, LAST_WORDS_MS)

    await die_during(shop, point, last_words)
    await shop.start()
    async with shop.till() as client:
        with pytest.raises(Rejected, match="sale_above_ceiling"):
            await pay_card(client, key, key, ANSWER_MS)
        assert await shop.twin.charges(str(key)) == []
        await change(shop, {"sale_ceiling_mode": "watch"})
        assert (await pay_card(client, key, key, ANSWER_MS)).state == "approved"  # the key was never used up
        assert len(await shop.twin.charges(str(key))) == 1
    await check_all(shop, [], tmp_path / "copy")


@pytest.mark.parametrize(("point", "holds"), [("before screening_changed", False), ("after screening_changed", True)])
async def test_a_change_holds_exactly_when_its_entry_is_in_the_log(
    shop: CrashShop, tmp_path: Path, point: str, holds: bool
) -> None:
    await die_during(shop, point, lambda _client: change(shop, STRICT))
    await shop.start()
    assert (await thresholds(shop) == STRICT) is holds
    await check_all(shop, [], tmp_path / "copy")
