"""The installer: what it does to a disk, what it refuses without touching it, and what it says of an update later."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.evidence.update import Installed, UpdatePart
from appliance.installer.install import Installer
from appliance.wire.installer import Installing, Report
from drivers.slots.blocks import DiskBlocks
from drivers.slots.boot_entries import BootEntries
from drivers.slots.slots import identifiers
from tests.update_kit import FLOOR, MODEL, NEW, OLD, image, statement_of, update_file
from tests.update_machine import TestMachine

ASKED = "ab" * 16


@pytest.fixture(scope="module")
def owner() -> OwnerKey:
    return OwnerKey.generate()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, owner: OwnerKey) -> TestMachine:
    machine = TestMachine.make(tmp_path_factory.mktemp("template") / "machine")
    (machine.spool / "update").write_bytes(update_file(image(NEW), owner))
    return machine


@pytest.fixture
def machine(template: TestMachine, tmp_path: Path) -> TestMachine:
    return template.copy(tmp_path / "machine")


@pytest.fixture
def settle(machine: TestMachine, owner: OwnerKey) -> Iterator[Callable[..., Report]]:
    with closing(DiskBlocks(machine.disk)) as blocks:

        def settled(before: Report | None = None, *, entries: BootEntries | None = None, **running: Any) -> Report:
            installer = Installer(
                blocks=blocks,
                entries=entries or BootEntries(machine.esp),
                owner=owner.public,
                running=replace(machine.running, **running),
            )
            return installer.settle(machine.spool / "update", ASKED, before)

        yield settled


def names(machine: TestMachine) -> list[str]:
    return sorted(path.name for path in (machine.esp / "EFI/Linux").iterdir())


def test_update_lands_in_the_other_slot_and_may_be_tried_three_times(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    kept = machine.kept()
    report = settle()
    assert (report.state, report.version, report.number) == (Installing.INSTALLED, NEW, FLOOR + 1)
    assert machine.kept() == kept
    assert machine.starts() == {OLD, NEW}
    assert names(machine) == [f"tillstone_{OLD}.efi", f"tillstone_{NEW}+3.efi"]
    assert {"tillstone_1.1.0", "tillstone_1.1.0_verity"} <= machine.rows().keys()


def test_the_table_is_right_in_the_eyes_of_another_program(machine: TestMachine, settle: Callable[..., Report]) -> None:
    settle()
    command = ["systemd-repart", "--dry-run=yes", "--json=short", "--no-pager"]
    command += [f"--definitions={machine.folder / 'repart.d'}", str(machine.disk)]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    root_id, verity_id = identifiers(image(NEW).root_hash)
    seen = {row["label"]: row["uuid"] for row in shown}
    assert seen["tillstone_1.1.0"] == str(root_id)
    assert seen["tillstone_1.1.0_verity"] == str(verity_id)
    assert seen.keys() - {"tillstone_1.1.0", "tillstone_1.1.0_verity"} == {
        "tillstone_1.0.0", "tillstone_1.0.0_verity", "state",
    }  # fmt: skip


def test_an_older_failed_image_gives_its_place(machine: TestMachine, settle: Callable[..., Report]) -> None:
    (machine.esp / "EFI/Linux/tillstone_1.0.9+0-3.efi").write_bytes(b"failed")
    (machine.esp / "EFI/Linux/tillstone.new").write_bytes(b"half")
    settle()
    assert names(machine) == [f"tillstone_{OLD}.efi", f"tillstone_{NEW}+3.efi"]


@pytest.mark.parametrize(
    ("installed", "code"),
    [
        (Installed(model="another-board", version=OLD, floor=FLOOR), "update_wrong_model"),
        (Installed(model=MODEL, version=OLD, floor=FLOOR + 1), "update_older"),
    ],
)
def test_refused_update_leaves_every_byte_as_it_was(
    machine: TestMachine, settle: Callable[..., Report], installed: Installed, code: str
) -> None:
    before = machine.disk.read_bytes(), names(machine)
    report = settle(installed=installed)
    assert (report.state, report.code) == (Installing.REFUSED, code)
    assert (machine.disk.read_bytes(), names(machine)) == before


def test_file_of_another_owner_truncated_or_changed_leaves_every_byte_as_it_was(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    before = machine.disk.read_bytes(), names(machine)
    update = machine.spool / "update"
    whole = update.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    for content, code in (
        (update_file(image(NEW), OwnerKey.generate()), "update_foreign"),
        (update_file(image(NEW), None), "update_unsigned"),
        (whole[:-1], "update_truncated"),
        (changed, "update_damaged"),
        (b"", "update_truncated"),
    ):
        update.write_bytes(content)
        assert settle().code == code
        assert (machine.disk.read_bytes(), names(machine)) == before


def test_root_larger_than_a_slot_is_refused_before_anything_is_written(
    machine: TestMachine, settle: Callable[..., Report], owner: OwnerKey
) -> None:
    before = machine.disk.read_bytes(), names(machine)
    release = replace(image(NEW), root=bytes(600_000))
    (machine.spool / "update").write_bytes(update_file(release, owner))
    assert settle().code == "update_no_room"
    assert (machine.disk.read_bytes(), names(machine)) == before


def test_full_boot_partition_leaves_the_running_image_alone_to_start(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    class Full(BootEntries):
        def _sync(self) -> None:
            if (machine.esp / "EFI/Linux/tillstone.new").exists():
                raise OSError(errno.ENOSPC, "no space")
            super()._sync()

    kept = machine.kept()
    report = settle(entries=Full(machine.esp))
    assert (report.state, report.code) == (Installing.REFUSED, "update_no_room")
    assert (machine.starts(), machine.kept()) == ({OLD}, kept)
    assert names(machine) == [f"tillstone_{OLD}.efi"]


def test_no_update_while_the_running_image_is_on_trial_itself(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    linux = machine.esp / "EFI/Linux"
    (linux / f"tillstone_{OLD}.efi").rename(linux / f"tillstone_{OLD}+2-1.efi")
    before = machine.disk.read_bytes(), names(machine)
    assert settle().code == "update_unconfirmed"
    assert (machine.disk.read_bytes(), names(machine)) == before


def test_disk_without_the_running_slot_is_foreign(machine: TestMachine, settle: Callable[..., Report]) -> None:
    assert settle(root_hash=bytes(32)).code == "update_disk_foreign"


def test_medium_that_gives_back_other_bytes_is_never_made_startable(
    machine: TestMachine, settle: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiskBlocks, "write", lambda *_: None)
    with pytest.raises(OSError, match="gave back"):
        settle()
    assert machine.starts() == {OLD}
    assert names(machine) == [f"tillstone_{OLD}.efi"]


def test_the_new_image_is_on_trial_until_the_boot_loader_knows_it_good(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    installed = settle()
    linux = machine.esp / "EFI/Linux"
    new = {
        "root_hash": image(NEW).root_hash,
        "installed": Installed(model=MODEL, version=NEW, floor=FLOOR),
        "boot": "second-boot",
    }
    (linux / f"tillstone_{NEW}+3.efi").rename(linux / f"tillstone_{NEW}+2-1.efi")
    trying = settle(installed, **new)
    assert trying.state is Installing.TRYING
    (linux / f"tillstone_{NEW}+2-1.efi").rename(linux / f"tillstone_{NEW}.efi")
    assert settle(trying, **new).state is Installing.CONFIRMED


def test_the_old_image_in_a_later_boot_means_that_the_new_one_failed(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    installed = settle()
    linux = machine.esp / "EFI/Linux"
    (linux / f"tillstone_{NEW}+3.efi").rename(linux / f"tillstone_{NEW}+0-3.efi")
    fallen = settle(installed, boot="fifth-boot")
    assert (fallen.state, fallen.code) == (Installing.FELL_BACK, "update_not_healthy")
    assert "after 3 tries of 1.1.0" in fallen.detail
    assert machine.starts() == {OLD}
    assert settle(fallen, boot="sixth-boot") == fallen


def test_the_same_update_may_be_asked_for_again_after_it_fell_back(
    machine: TestMachine, settle: Callable[..., Report]
) -> None:
    fallen = replace_asked(settle())
    linux = machine.esp / "EFI/Linux"
    (linux / f"tillstone_{NEW}+3.efi").rename(linux / f"tillstone_{NEW}+0-3.efi")
    assert settle(fallen, boot="fifth-boot").state is Installing.INSTALLED
    assert machine.starts() == {OLD, NEW}


def replace_asked(report: Report) -> Report:
    """The same, of an earlier request."""
    return Report(asked="cd" * 16, state=Installing.FELL_BACK, boot=report.boot)


def test_statement_with_a_part_of_another_size_is_refused(
    machine: TestMachine, settle: Callable[..., Report], owner: OwnerKey
) -> None:
    parts = {**statement_of(image(NEW)).parts, "verity": UpdatePart(size=39_999, sha256=bytes(32))}
    statement = statement_of(image(NEW), parts=parts)
    (machine.spool / "update").write_bytes(update_file(image(NEW), owner, statement))
    assert settle().code == "update_damaged"
