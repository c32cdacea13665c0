"""The box dies around a parcel: the terminal gets one that is genuine, and one that it had stays good."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from appliance.crypto import hpke
from appliance.ledger.parcel import open_parcel
from appliance.ledger.trust import load_trust
from appliance.wire.answers import EscrowAnswer
from appliance.wire.escrow_entries import ESCROWED
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import ANSWER_MS, check_all, pay_cash
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

SEED = bytes(range(32))


async def ask(client: TerminalClient, wait_ms: int = ANSWER_MS) -> EscrowAnswer:
    return await client.escrow(0, deadline=client.deadline(wait_ms))


@pytest.mark.parametrize("point", ["before escrowed", "after escrowed", "signed", "answer escrow"])
async def test_a_parcel_is_genuine_wherever_the_box_dies_around_it(shop: CrashShop, tmp_path: Path, point: str) -> None:
    recipient = shop.path / "recovery.pub"
    recipient.write_bytes(base64.b64encode(hpke.public_key_of(SEED)))
    with (shop.folder.box / "tillstone.toml").open("a") as settings:
        settings.write(f'\n[escrow]\nrecipient_path = "{recipient}"\n')
    await die_during(shop, point, lambda client: ask(client, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        key = client.new_key()
        await pay_cash(client, key, key, ANSWER_MS)
        answer = await ask(client)
    assert answer.parcel is not None
    trust = load_trust((shop.folder.box / "trust.json").read_bytes())
    origins = {log_id: statement.origin for log_id, statement in trust.logs.items()}
    opened = open_parcel(answer.parcel, SEED, trust.keys, origins, ESCROWED)
    assert (opened.header.size, opened.manifest.waiting) == (answer.size, ())
    assert "sale" in {entry.kind for entry in opened.tail}
    await check_all(shop, [], tmp_path / "copy")
