"""The box dies around a token or a data key: kept once under one name, forgotten for good, and rotations end."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer, TokenAnswer
from appliance.wire.requests import PaymentBody, TenderBody, TokenBody
from provisioning.local_door import LocalDoor
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS, check_all
from tests.crash.invariants import Told
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

SECRET = "pm_card_visa"  # what the twin takes
KEEP = TokenBody(act="keep", token=SECRET, purposes=("sale",))
LOOKS_MAX = 500


async def keep(client: TerminalClient, key: RequestKey, wait_ms: int = ANSWER_MS) -> TokenAnswer:
    return await client.token(KEEP, key=key, deadline=client.deadline(wait_ms))


async def forget(client: TerminalClient, key: RequestKey, name: str, wait_ms: int = ANSWER_MS) -> TokenAnswer:
    return await client.token(TokenBody(act="forget", name=name), key=key, deadline=client.deadline(wait_ms))


async def sell(client: TerminalClient, key: RequestKey, name: str, wait_ms: int = ANSWER_MS) -> PaymentAnswer:
    tender = TenderBody(kind="card", amount_minor=AMOUNT, source=name)
    body = PaymentBody(currency="EUR", amount_minor=AMOUNT, tenders=(tender,))
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


def held(shop: CrashShop) -> tuple[list[str], int]:
    """Names in the file, and how many data keys there are."""
    with closing(sqlite3.connect(shop.data / "vault.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM tokens ORDER BY name")]
        return names, connection.execute("SELECT count(*) FROM data_keys").fetchone()[0]


async def until_held(shop: CrashShop, names: list[str], keys: int) -> None:
    """Wait for what the box does in the background."""
    for _ in range(LOOKS_MAX):
        if held(shop) == (sorted(names), keys):
            return
        await asyncio.sleep(0.02)
    assert held(shop) == (sorted(names), keys), shop.log


async def keys_of(shop: CrashShop, count: int) -> list[RequestKey]:
    """Keys that a till made before; the box is stopped."""
    await shop.start()
    async with shop.till() as client:
        made = [client.new_key() for _ in range(count)]
    await shop.kill()
    return made


@pytest.mark.parametrize(
    "point",
    [
        "before vault_key_made",
        "after vault_key_made",
        "after put",
        "before token_kept",
        "after token_kept",
        "signed",
        "answer token",
    ],
)
async def test_a_token_is_kept_once_under_one_name_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    key, sale = await keys_of(shop, 2)
    await die_during(shop, point, lambda client: keep(client, key, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        first, again = await keep(client, key), await keep(client, key)
        assert (first.name, first.seq, first.state) == (again.name, again.seq, "kept")
        await until_held(shop, [first.name], 1)
        assert (await sell(client, sale, first.name)).state == "approved"
    await check_all(shop, [Told(key=str(sale), payment=str(sale), state="approved")], tmp_path / "copy")


@pytest.mark.parametrize("point", ["before token_forgotten", "after token_forgotten", "after drop", "answer token"])
async def test_a_forgotten_token_is_gone_for_good_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    key, forgetting, sale = await keys_of(shop, 3)
    await shop.start()
    async with shop.till() as client:
        name = (await keep(client, key)).name
    await shop.kill()
    await die_during(shop, point, lambda client: forget(client, forgetting, name, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        assert (await forget(client, forgetting, name)).state == "forgotten"
        await until_held(shop, [], 1)
        with pytest.raises(Rejected, match="token_forgotten"):
            await sell(client, sale, name)
    await check_all(shop, [], tmp_path / "copy")


@pytest.mark.parametrize(
    "point",
    [
        "before vault_key_made",
        "after vault_key_made",
        "before reseal",
        "after reseal",
        "before vault_key_destroyed",
        "after vault_key_destroyed",
    ],
)
async def test_a_rotation_ends_and_every_token_opens_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    first, second, *sales = await keys_of(shop, 4)
    await shop.start()
    async with shop.till() as client:
        names = [(await keep(client, key)).name for key in (first, second)]
    await shop.kill()
    await die_during(shop, point, lambda _client: asyncio.to_thread(_rotate, shop))
    await shop.start()
    await until_held(shop, names, 1)
    async with shop.till() as client:
        for sale, name in zip(sales, names, strict=True):
            assert (await sell(client, sale, name)).state == "approved"
    await check_all(
        shop, [Told(key=str(sale), payment=str(sale), state="approved") for sale in sales], tmp_path / "copy"
    )


@pytest.mark.parametrize("point", ["after intent", "before ask", "after ask", "after outcome"])
async def test_a_sale_by_token_is_charged_once_or_not_at_all_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    key, sale = await keys_of(shop, 2)
    await shop.start()
    async with shop.till() as client:
        name = (await keep(client, key)).name
    await shop.kill()
    await die_during(shop, point, lambda client: sell(client, sale, name, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        answer = await sell(client, sale, name)
        assert answer.state == ("approved" if point in ("after ask", "after outcome") else "not_charged")
    told: list[Any] = [Told(key=str(sale), payment=str(sale), state=answer.state)]
    await check_all(shop, told, tmp_path / "copy")


def _rotate(shop: CrashShop) -> str:
    return LocalDoor(shop.data).rotate_vault()
