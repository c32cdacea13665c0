"""A real box, a real TPM and the real installer from the signed file to the confirmed image, and back where it fails.

The disk is a file and the boot loader is this test: it counts tries and picks what may be started.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from appliance.crypto.owner import OwnerKey
from appliance.wire.installer import Installing
from drivers.slots.boot_entries import BootEntries
from drivers.tpm.bundle import decode_bundle
from drivers.tpm.context import TpmContext
from drivers.tpm.quote import read_pcrs
from provisioning.cli import main
from provisioning.owner.update import complete
from tests.integration.box import RunningBox, StartFailed, running_box
from tests.integration.till import CASH, paired_till
from tests.until import until_now
from tests.update_kit import MODEL, NEW, OLD, image, statement_of, update_file
from tests.update_machine import TestMachine

NUMBER = 2  # a new TPM's floor is 1


class Device:
    """A box inside an image on a disk of its own."""

    def __init__(self, box: RunningBox, machine: TestMachine) -> None:
        self.box = box
        self.machine = machine
        self.kernel = machine.folder / "proc"
        self.boots = 0
        (self.kernel / "sys/kernel/random").mkdir(parents=True)

    @property
    def linux(self) -> Path:
        return self.machine.esp / "EFI/Linux"

    def boot(self, version: str) -> None:
        """From cold, as the boot loader and the firmware do it: one try fewer, another image measured."""
        self.box.power_cycle()
        self.boots += 1
        entry = BootEntries(self.machine.esp).of(version)
        assert entry is not None
        if entry.tries_left is not None:
            left, done = entry.tries_left - 1, entry.tries_done + 1
            entry.path.rename(self.linux / f"tillstone_{version}+{left}-{done}.efi")
        (self.machine.folder / "os-release").write_text(
            f"IMAGE_ID=tillstone\nIMAGE_VERSION={version}\nTILLSTONE_MODEL={MODEL}\n"
        )
        (self.kernel / "cmdline").write_text(f"quiet roothash={image(version).root_hash.hex()} panic=10\n")
        (self.kernel / "sys/kernel/random/boot_id").write_text(f"boot-{self.boots}\n")
        if version == NEW:
            with closing(TpmContext(self.box.tcti)) as tpm:
                measure(tpm)

    def bless(self) -> None:
        entry = BootEntries(self.machine.esp).of(NEW)
        assert entry is not None
        entry.path.rename(self.linux / f"tillstone_{NEW}.efi")

    def install(self) -> dict[str, Any]:
        """Run the installer's program; its TPM has one visitor at a time here, so the box must be stopped."""
        report = self.machine.folder / "report.json"
        command = [sys.executable, "-m", "appliance.installer", "--stay", "--spool", self.machine.spool]
        command += ["--trust", self.box.box.trust, "--report", report, "--tcti", self.box.tcti]
        command += ["--esp", self.machine.esp, "--disk", self.machine.disk, "--kernel", self.kernel]
        command += ["--os-release", self.machine.folder / "os-release"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(report.read_bytes())
        return said

    def update(self) -> dict[str, Any]:
        return self.box.local.update()

    def state_becomes(self, state: str) -> None:
        until_now(f"state {state}", lambda: self.update()["state"] == state)


def measure(tpm: TpmContext) -> None:
    """The new image in PCR 11."""
    digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=b"the new image".ljust(32)))
    with tpm.commands() as esapi:
        esapi.pcr_extend(ESYS_TR(11), TPML_DIGEST_VALUES(digests=[digest]))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    machine = TestMachine.make(tmp_path / "machine")
    places = f'spool_path = "{machine.spool}"\nreport_path = "{machine.folder / "report.json"}"\n'
    places += f'image_path = "{machine.folder / "os-release"}"\n'
    (tmp_path / "box").mkdir()
    with running_box(tmp_path / "box", settings=f"\n[update]\n{places}", starts=False) as box:
        made = Device(box, machine)
        made.boot(OLD)
        yield made


@pytest.fixture
def file(device: Device, tmp_path: Path) -> Path:
    """What the box's owner signs: the new image, with the approval of the PCR values that it will have."""
    with closing(TpmContext(device.box.tcti)) as tpm:
        measure(tpm)
        values = read_pcrs(tpm, (0, 7, 11))
    device.box.power_cycle()
    folder = device.box.box.folder / "owner"
    key = serialization.load_pem_private_key((folder / "policy-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    statement = complete(
        statement_of(image(NEW), pcr11=values[11]), number=NUMBER, policy_key=key, states=[{0: values[0], 7: values[7]}]
    )
    path = tmp_path / f"tillstone-{NEW}.update"
    path.write_bytes(update_file(image(NEW), OwnerKey.load(folder / "owner-key", None), statement))
    return path


def test_update_is_staged_installed_tried_and_confirmed_and_the_shop_goes_on(
    device: Device, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, data = device.box, str(device.box.box.data)
    box.start()
    till = paired_till(box, tmp_path, "till-1")
    assert till.ask("payment", CASH).status == 200
    assert main(["update", str(file), "--dir", data]) == 0
    assert device.update()["state"] == "staged"
    box.stop()
    kept = device.machine.kept()
    assert device.install()["state"] == Installing.INSTALLED
    assert (device.machine.starts(), device.machine.kept()) == ({OLD, NEW}, kept)

    device.boot(NEW)
    box.start()  # the PIN opens for the image that was approved, and the test sale went through
    device.state_becomes("trying")
    assert till.ask("payment", CASH).status == 200
    device.bless()
    box.stop()
    assert device.install()["state"] == Installing.CONFIRMED
    box.start()
    device.state_becomes("confirmed")
    assert device.update()["floor"] == NUMBER
    capsys.readouterr()
    assert main(["update", "status", "--dir", data]) == 0
    assert capsys.readouterr().out.startswith(f"{NEW} on {MODEL}; releases up to number {NUMBER} are refused")
    assert main(["update", str(file), "--dir", data]) == 2
    assert "update_older" in capsys.readouterr().err
    assert till.ask("payment", CASH).status == 200

    device.boot(OLD)
    with pytest.raises(StartFailed):
        box.start()
    assert box.events("start.failed")[-1]["code"] == "tpm_policy_refused"  # rolled back: no PIN for the old image


def test_image_that_never_comes_up_leaves_the_old_one_selling(
    device: Device, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = device.box
    box.start()
    till = paired_till(box, tmp_path, "till-1")
    box.local.stage_update(file)
    box.stop()
    device.install()
    for _ in range(3):
        device.boot(NEW)
    assert device.machine.starts() == {OLD}
    device.boot(OLD)
    assert device.install()["state"] == Installing.FELL_BACK
    box.start()
    device.state_becomes("fell_back")
    assert till.ask("payment", CASH).status == 200
    assert main(["update", "status", "--dir", str(box.box.data)]) == 1
    assert "after 3 tries of 1.1.0 (update_not_healthy)" in capsys.readouterr().out
    assert device.update()["floor"] == NUMBER - 1
    assert any("did not come up" in finding["sentence"] for finding in box.local.status()["findings"])


def test_foreign_unsigned_and_truncated_files_leave_the_box_as_it_was(
    device: Device, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = device.box
    box.start()
    size, disk = box.log_size(), device.machine.disk.read_bytes()
    bundle = (box.box.folder / "tpm-bundle.json").read_bytes()
    whole = file.read_bytes()
    wrong = file.with_name("wrong.update")
    for content, code in (
        (update_file(image(NEW), OwnerKey.generate()), "update_foreign"),
        (update_file(image(NEW), None), "update_unsigned"),
        (whole[: len(whole) // 2], "update_truncated"),
        (whole[:-1] + b"\0", "update_damaged"),
        (b"#!/bin/sh\n", "update_malformed"),
    ):
        wrong.write_bytes(content)
        assert main(["update", str(wrong), "--dir", str(box.box.data)]) == 2
        assert code in capsys.readouterr().err
    assert device.update()["state"] == "none"
    assert (box.log_size(), device.machine.disk.read_bytes()) == (size, disk)
    assert (box.box.folder / "tpm-bundle.json").read_bytes() == bundle
    assert list(device.machine.spool.iterdir()) == []


def test_approvals_of_the_new_image_stand_beside_those_of_the_running_one(device: Device, file: Path) -> None:
    device.box.start()
    device.box.local.stage_update(file)
    bundle = decode_bundle((device.box.box.folder / "tpm-bundle.json").read_bytes())
    assert [policy.version for policy in bundle.policies] == [NUMBER, NUMBER - 1]
