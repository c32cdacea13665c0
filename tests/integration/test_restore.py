"""A box dies; a second one with another TPM and token is made of its backup, and its terminals sell on."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.ledger.backup_file import read_header
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected
from appliance.runtime.clock import SystemClock
from provisioning.ceremony.record import only_installer
from provisioning.recipient_key import read_seed
from provisioning.restore.restore import LAST_HEAD, Wish, restore
from provisioning.succession import REQUEST
from tests.integration.box import RunningBox, running_box
from tests.integration.restored_box import RestoredBox
from tests.integration.test_succession import command, receipt_of
from tests.integration.till import CARD, CASH, Till, paired_till

KEEP = {"act": "keep", "token": "pm_card_visa", "purposes": ["sale"]}
CUSTOMER = "Lise Meitner"


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A box that is set up for backups, with two terminals."""

    box: RunningBox
    key: Path
    first: Till
    second: Till

    def backup(self, file: Path, *, code: int = 0) -> str:
        return command("backup", "-o", file, "--dir", self.box.box.folder.parent, code=code)

    def restore(self, file: Path, *arguments: object, code: int = 0) -> str:
        known = ("--recovery-key", self.key, "--trust", self.box.box.trust)
        return command("restore", file, *known, *arguments, code=code)

    def owner_signs(self, folder: Path, signed: Path) -> Path:
        key = self.box.box.folder / "owner" / "owner-key"
        known = ("--head", folder / LAST_HEAD, "--needed", 0, "--trust", folder / "trust.json", "--owner-key", key)
        command("owner", "succeed", folder / REQUEST, *known, "-o", signed, "--yes")
        return signed


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    key = tmp_path / "recovery.key"
    command("owner", "recovery-key", key)
    settings = f'[backup]\nrecipient_path = "{key}.pub"\n'
    with running_box(tmp_path / "shop", has_cards=True, settings=settings) as box:
        first, second = (paired_till(box, tmp_path, name) for name in ("till-1", "till-2"))
        yield Shop(box=box, key=key, first=first, second=second)


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute(query)]


def test_a_second_box_sells_on_where_the_first_one_died(shop: Shop, tmp_path: Path) -> None:
    box, old_trust = shop.box, load_trust(shop.box.box.trust.read_bytes())
    name = shop.first.ask("token", KEEP | {"customer": CUSTOMER}).body["name"]
    assert shop.first.ask("payment", CARD | {"customer": CUSTOMER}).status in (200, 202)
    before = receipt_of(shop.first)
    box.local.revoke("till-2", "left the shop")
    file = tmp_path / "box.backup"
    assert "sealed" in shop.backup(file)
    after = receipt_of(shop.first)  # the backup does not know it; its receipt is as good
    charged = len(box.twin.charges()) if box.twin is not None else 0
    box.power_off()
    for lost in (box.box.data, box.box.token, box.box.tpm):
        shutil.rmtree(lost)

    folder = tmp_path / "second" / "box"
    said = shop.restore(file, "-C", folder, "--offline")
    assert "SANDBOX-1/2 begins" in said
    assert (folder / "tillstone.toml").stat().st_mode & 0o077 == 0
    signed = shop.owner_signs(folder, tmp_path / "signed")
    assert "terminals that need no pairing: till-1." in command("succession", "begin", signed, "--dir", folder)
    assert "had begun already" in command("succession", "begin", signed, "--dir", folder)
    assert "its new log has begun" in shop.restore(file, "-C", folder, "--offline")

    second = RestoredBox(folder)
    try:
        second.start()
        shop.first.box = second
        assert second.audience.endswith("/2")
        command("terminal", "follow", shop.first.home.folder, "--trust", second.box.trust)
        now = receipt_of(shop.first)
        trust = load_trust(second.box.trust.read_bytes())
        assert trust.owner == old_trust.owner
        logs = [verify_receipt(receipt, trust.keys).log_id for receipt in (before, after, now)]
        assert logs[0] == logs[1] != logs[2]
        previous = trust.logs[logs[2]].previous
        assert previous is not None
        assert previous.log_id == logs[0]
        # The vault came along, under the keys of this box's own token.
        sale = CARD | {"tenders": [{"kind": "card", "amount_minor": 990, "source": name}]}
        reply = shop.first.ask("payment", sale)
        assert shop.first.until_final(str(reply.body["key"])).body["state"] == "approved"
        assert box.twin is not None
        assert len(box.twin.charges()) == charged + 1
        # And with it the keys of persons: erasing one here makes noise of what the old log holds, too.
        assert not (folder / "data-1" / "keys.db").exists()
        assert second.local.held_about(f"customer:{CUSTOMER}")["is_carried"]
        command("subject", "erase", f"customer:{CUSTOMER}", "--yes", "--dir", second.box.data)
        assert shop.first.ask("payment", sale).code == "token_erased"
        shop.second.box = second
        assert shop.second.ask("payment", CASH).code in ("terminal_unknown", "terminal_revoked")
    finally:
        second.close()
    command("verify", "log", folder / "data-1", "--trust", second.box.trust, "--tables")


def test_a_stopped_box_is_backed_up_too_and_a_backup_is_proven_without_a_box(shop: Shop, tmp_path: Path) -> None:
    receipt_of(shop.first)
    shop.box.stop()
    shop.box.power_off()
    file = tmp_path / "box.backup"
    shop.backup(file)
    assert "is there already" in shop.backup(file, code=2)
    with file.open("rb") as opened:
        header = read_header(opened)
    assert header.origin == shop.box.audience
    assert rows(shop.box.box.data, "SELECT kind FROM entries ORDER BY seq")[header.size :] == ["backed_up"]
    proven = json.loads(shop.restore(file, "--check", "--offline", "--json"))
    assert proven == {"ok": True, "log": header.origin, "size": header.size, "made_ms": header.made_ms}


def test_what_is_refused_leaves_the_folder_blank_and_a_full_one_as_it_was(shop: Shop, tmp_path: Path) -> None:
    receipt_of(shop.first)
    file = tmp_path / "box.backup"
    shop.backup(file)
    changed = bytearray(file.read_bytes())
    changed[-100] ^= 1
    (tmp_path / "changed").write_bytes(changed)
    folder = tmp_path / "second" / "box"
    assert "(backup_changed)" in shop.restore(tmp_path / "changed", "-C", folder, "--offline", code=2)
    assert {path.name for path in folder.iterdir()} <= {".tillstone-box", ".ceremony.lock"}
    with only_installer(folder):
        assert "another installer" in shop.restore(file, "-C", folder, "--offline", code=2)
    for full, why in ((shop.box.box.folder, "it has a log already"), (tmp_path, "it holds other files")):
        before = sorted(path.name for path in full.iterdir())
        refused = shop.restore(file, "-C", full, "--offline", code=2)
        assert "(restore_not_blank)" in refused
        assert why in refused
        assert sorted(path.name for path in full.iterdir()) == before
    shop.restore(file, "-C", folder, "--offline")
    assert (folder / "data" / "ledger.db").exists(), "the right one is restored where the wrong one was refused"


def test_a_place_without_room_is_refused_before_anything_is_made(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt_of(shop.first)
    file = tmp_path / "box.backup"
    shop.backup(file)
    wish = Wish(
        file=file,
        seed=read_seed(shop.key, made_by="the test"),
        trust=load_trust(shop.box.box.trust.read_bytes()),
        is_offline=True,
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 20))
    with pytest.raises(Rejected, match="restore_no_room"):
        restore(wish, tmp_path / "second", SystemClock())
    assert not (tmp_path / "second" / "restoring").exists()


def test_a_box_that_names_no_recovery_key_is_not_backed_up(tmp_path: Path) -> None:
    with running_box(tmp_path / "shop") as box:
        for is_stopped in (False, True):
            if is_stopped:
                box.stop()
                box.power_off()
            assert "backup_not_set_up" in command("backup", "-o", tmp_path / "x", "--dir", tmp_path / "shop", code=2)
        assert not (tmp_path / "x").exists()
        assert list(tmp_path.glob("*.partial")) == []
