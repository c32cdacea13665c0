"""Power cuts while an update is installed: at every hundredth of the bytes, at every sector of the partition tables,
and around each step in the boot partition. The running slot keeps every byte, what can be started is whole, and the
next start goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.installer.install import Installer
from appliance.wire.installer import Installing
from drivers.slots.blocks import Blocks, DiskBlocks
from drivers.slots.boot_entries import BootEntries
from tests.power_loss import SECTOR, LosingBlocks, PowerCut
from tests.update_kit import NEW, OLD, image, update_file
from tests.update_machine import TestMachine

ASKED = "ab" * 16
ENDLESS = 1 << 40
TABLES = 2 * (32 + 1)  # sectors: entries and header, twice


@pytest.fixture(scope="module")
def owner() -> OwnerKey:
    return OwnerKey.generate()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, owner: OwnerKey) -> TestMachine:
    machine = TestMachine.make(tmp_path_factory.mktemp("template") / "machine")
    (machine.spool / "update").write_bytes(update_file(image(NEW), owner))
    return machine


@pytest.fixture(scope="module")
def written(template: TestMachine, owner: OwnerKey, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes of a whole installation."""
    machine = template.copy(tmp_path_factory.mktemp("whole") / "machine")
    blocks = LosingBlocks(machine.disk, lasts=ENDLESS, seed=0)
    install(machine, owner, blocks)
    blocks.close()
    return blocks.spent


class CuttingEntries(BootEntries):
    """The power goes at the n-th time that the folder is synced, before or after."""

    def __init__(self, place: Path, blocks: LosingBlocks, *, at: int, is_after: bool) -> None:
        super().__init__(place)
        self._blocks = blocks
        self._left = at
        self._is_after = is_after

    def _sync(self) -> None:
        self._left -= 1
        if self._left == 0 and not self._is_after:
            self._blocks.cut()
        super()._sync()
        if self._left == 0:
            self._blocks.cut()


def install(machine: TestMachine, owner: OwnerKey, blocks: Blocks, entries: BootEntries | None = None) -> Installing:
    entries = entries or BootEntries(machine.esp)
    installer = Installer(blocks=blocks, entries=entries, owner=owner.public, running=machine.running)
    return installer.settle(machine.spool / "update", ASKED, None).state


def assert_it_sells_and_goes_on(machine: TestMachine, owner: OwnerKey, kept: str) -> None:
    assert machine.kept() == kept
    starts = machine.starts()
    assert OLD in starts
    entry = BootEntries(machine.esp).of(NEW)
    assert entry is None or NEW in starts, "a kernel image that may be tried stands before a slot that is not whole"
    blocks = DiskBlocks(machine.disk)
    assert install(machine, owner, blocks) is Installing.INSTALLED
    blocks.close()
    assert (machine.starts(), machine.kept()) == ({OLD, NEW}, kept)


@pytest.mark.parametrize("percent", range(101))
def test_cut_at_each_hundredth(
    template: TestMachine, owner: OwnerKey, written: int, tmp_path: Path, percent: int
) -> None:
    machine = template.copy(tmp_path / "machine")
    kept = machine.kept()
    # A little off the border, so that writes are torn too.
    blocks = LosingBlocks(machine.disk, lasts=max(0, written * percent // 100 - SECTOR), seed=percent)
    with pytest.raises(PowerCut):
        install(machine, owner, blocks)
    assert_it_sells_and_goes_on(machine, owner, kept)


@pytest.mark.parametrize("sector", range(TABLES))
def test_cut_at_each_sector_of_the_partition_tables(
    template: TestMachine, owner: OwnerKey, written: int, tmp_path: Path, sector: int
) -> None:
    machine = template.copy(tmp_path / "machine")
    kept = machine.kept()
    blocks = LosingBlocks(machine.disk, lasts=written - (TABLES - sector) * SECTOR, seed=1_000 + sector)
    with pytest.raises(PowerCut):
        install(machine, owner, blocks)
    assert_it_sells_and_goes_on(machine, owner, kept)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_cut_around_each_step_in_the_boot_partition(
    template: TestMachine, owner: OwnerKey, tmp_path: Path, at: int, is_after: bool
) -> None:
    machine = template.copy(tmp_path / "machine")
    kept = machine.kept()
    (machine.esp / "EFI/Linux/tillstone_1.0.9+0-3.efi").write_bytes(b"failed")
    blocks = LosingBlocks(machine.disk, lasts=ENDLESS, seed=at)
    with pytest.raises(PowerCut):
        install(machine, owner, blocks, CuttingEntries(machine.esp, blocks, at=at, is_after=is_after))
    assert_it_sells_and_goes_on(machine, owner, kept)


def test_killed_at_each_hundredth_and_started_again(
    template: TestMachine, owner: OwnerKey, written: int, tmp_path: Path
) -> None:
    """The same with real processes that die by SIGKILL, each going on where the one before fell."""
    machine = template.copy(tmp_path / "machine")
    kept = machine.kept()
    (tmp_path / "owner").write_bytes(owner.public.encode())
    points = [written * percent // 100 for percent in range(100)]
    program = [sys.executable, "-m", "tests.crash.dying_update", str(machine.folder), str(tmp_path / "owner")]
    said = subprocess.run(
        [*program, json.dumps(points)], capture_output=True, text=True, check=True, env={**os.environ}, timeout=300
    )
    deaths = json.loads(said.stdout)
    assert [death["ended"] for death in deaths] == ["killed"] * len(points)
    assert all(death["kept"] == kept and OLD in death["starts"] for death in deaths)
    assert_it_sells_and_goes_on(machine, owner, kept)
