"""Power is lost while a box is restored: the same command goes on, and the shop is whole in the end; real devices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.restore.restore import LAST_HEAD
from provisioning.succession import REQUEST
from tests.integration.box import require_devices, running_box
from tests.integration.restored_box import RestoredBox
from tests.integration.test_succession import command
from tests.integration.till import CARD, paired_till

KEEP = {"act": "keep", "token": "pm_card_visa", "purposes": ["sale"]}


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, str]]:
    """What is left of a shop: a backup, its keys; and the name of a token that the vault kept. Its twin runs on."""
    require_devices()
    folder = tmp_path_factory.mktemp("lost")
    command("owner", "recovery-key", folder / "recovery.key")
    settings = f'[backup]\nrecipient_path = "{folder}/recovery.key.pub"\n'
    with running_box(folder / "shop", has_cards=True, settings=settings) as box:
        till = paired_till(box, folder, "till-1")
        name = str(till.ask("token", KEEP).body["name"])
        command("backup", "-o", folder / "box.backup", "--dir", folder / "shop")
        box.power_off()
        yield folder, till.home.folder, name


def dying(at: str, died: Path, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.dying_restore", *map(str, arguments)],
        env={**os.environ, "DIE_AT": at, "DIED_FILE": str(died)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert died.exists(), done.stderr
    died.unlink()


def test_a_restore_cut_off_at_each_step_ends_by_running_it_again(lost: tuple[Path, Path, str], tmp_path: Path) -> None:
    left, home, token = lost
    folder, died = tmp_path / "second" / "box", tmp_path / "died"
    known = ("--recovery-key", left / "recovery.key", "--trust", left / "shop" / "box" / "trust.json")
    restore = ("restore", left / "box.backup", *known, "-C", folder, "--offline")
    for at in ("after unpack", "before devices", "after devices", "before settings", "before keys"):
        dying(at, died, *restore)
        assert not (folder / "data").exists(), "nothing is in place before everything is"
    dying("before data", died, *restore)
    dying("before request", died, *restore)
    assert "SANDBOX-1/2 begins" in command(*restore)
    request = (folder / REQUEST).read_bytes()
    command(*restore)
    assert (folder / REQUEST).read_bytes() == request, "the owner is asked once"
    assert "another backup" in command("restore", _other(left, tmp_path), *known, "-C", folder, "--offline", code=2)

    signed, key = tmp_path / "signed", left / "shop" / "box" / "owner" / "owner-key"
    owner = ("--head", folder / LAST_HEAD, "--needed", 0, "--trust", folder / "trust.json", "--owner-key", key)
    command("owner", "succeed", folder / REQUEST, *owner, "-o", signed, "--yes")
    begin = ("succession", "begin", signed, "--dir", folder)
    for at in ("before secrets", "before file", "before tokens"):
        dying(at, died, *begin)
    assert "till-1" in command(*begin)
    box = RestoredBox(folder)
    try:
        box.start()
        command("terminal", "follow", home, "--trust", box.box.trust)
        till = paired_till(box, tmp_path, "till-3")
        sold = till.ask("payment", CARD | {"tenders": [{"kind": "card", "amount_minor": 990, "source": token}]})
        assert till.until_final(str(sold.body["key"])).body["state"] == "approved"
    finally:
        box.close()


def _other(left: Path, folder: Path) -> Path:
    """Another backup of the same box, which stands still now."""
    file = folder / "other.backup"
    command("backup", "-o", file, "--dir", left / "shop")
    return file
