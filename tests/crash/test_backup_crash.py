"""The box dies while a backup is made: what was made before stays, half a one counts for nothing, and sales go on."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from appliance.crypto import hpke
from appliance.device.backup_keeper import SUFFIX
from appliance.ledger.backup_file import read_header
from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected, Unavailable
from appliance.wiring.projections import projections
from provisioning.local_door import LocalDoor
from provisioning.restore.unpack import unpack
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import check_all
from tests.crash.invariants import Told
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import die_during
from tests.crash.test_vault_crash import keep, sell
from tests.until import until

SEED = bytes(range(32))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The recovery recipient's public key."""
    file = tmp_path / "recovery.key.pub"
    file.write_bytes(base64.b64encode(hpke.public_key_of(SEED)) + b"\n")
    return file


def set_up(shop: CrashShop, key: Path, more: str = "") -> None:
    with (shop.folder.box / "tillstone.toml").open("a") as settings:
        settings.write(f'\n[backup]\nrecipient_path = "{key}"\n{more}')


def backup(shop: CrashShop, file: Path) -> None:
    with file.open("wb") as opened:
        LocalDoor(shop.data).backup(opened)


def is_whole(file: Path) -> bool:
    with file.open("rb") as opened:
        try:
            read_header(opened)
        except Rejected:
            return False
    return True


def restorable(shop: CrashShop, file: Path, folder: Path) -> int:
    """How many entries come out of it."""
    folder.mkdir()
    trust = load_trust((shop.folder.box / "trust.json").read_bytes())
    with file.open("rb") as opened:
        return unpack(opened, seed=SEED, trust=trust, folder=folder, tables=projections()).header.size


@pytest.mark.parametrize("point", ["signed", "before backed_up", "after backed_up"])
async def test_half_a_backup_is_known_as_one_and_the_next_is_whole(
    shop: CrashShop, tmp_path: Path, key: Path, point: str
) -> None:
    set_up(shop, key)
    await shop.start()
    async with shop.till() as client:
        name = (await keep(client, client.new_key())).name
        sale = client.new_key()
    await shop.kill()

    async def ask(_client: TerminalClient) -> None:
        with pytest.raises(Unavailable, match="box_unreachable"):
            await asyncio.to_thread(backup, shop, tmp_path / "half")

    await die_during(shop, point, ask)
    assert not await asyncio.to_thread(is_whole, tmp_path / "half")
    await shop.start()
    async with shop.till() as client:
        assert (await sell(client, sale, name)).state == "approved"
    await asyncio.to_thread(backup, shop, tmp_path / "whole")
    assert await asyncio.to_thread(restorable, shop, tmp_path / "whole", tmp_path / "out") > 2
    await check_all(shop, [Told(key=str(sale), payment=str(sale), state="approved")], tmp_path / "copy")


async def test_a_folder_of_backups_holds_whole_ones_only_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, key: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    set_up(shop, key, f'folder = "{stick}"\n')
    shop.launch("before backed_up")
    await shop.died()
    assert list(stick.glob(f"*{SUFFIX}")) == []
    await shop.start()
    await until("a backup in the folder", lambda: bool(list(stick.glob(f"*{SUFFIX}"))))
    (file,) = stick.iterdir()  # and nothing half beside it
    assert await asyncio.to_thread(restorable, shop, file, tmp_path / "out") > 2
