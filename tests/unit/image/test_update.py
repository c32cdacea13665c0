"""Owns the promises of updates in the image: the file that a build leaves, and units that agree with the process."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config.update import Update
from appliance.crypto.owner import OwnerKey, SignedStatement
from appliance.evidence.update import UPDATE, Installed, UpdateStatement, read_update_statement, require_update
from appliance.evidence.update_file import read_update
from appliance.model.errors import Rejected
from appliance.wire.installer import REQUEST_FILE
from image import definition
from image.definition import DEFINITION, MODEL, version
from image.disk import Disk
from image.update import UNNUMBERED, write_update
from provisioning.owner.update import write_signed
from tests.unit.image.test_definition import program

UNITS = DEFINITION / "root/usr/lib/systemd/system"
STATE = Path("/var/lib/tillstone")  # StateDirectory= of the appliance, in which its settings lie
READY = "aa" * 32


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk as the build makes one, with little on it."""
    repart = tmp_path / "repart.d"
    repart.mkdir()
    for name, kind, label in (("0", "root-verity", "_verity"), ("1", "root", "")):
        text = f"[Partition]\nType={kind}\nLabel=tillstone_{version()}{label}\nSizeMinBytes=64K\nSizeMaxBytes=64K\n"
        (repart / f"{name}.conf").write_text(text)
    raw, uki = tmp_path / "disk.raw", tmp_path / "uki.efi"
    command = [program("systemd-repart"), "--dry-run=no", "--empty=create", "--size=2M", "--no-pager"]
    subprocess.run([*command, f"--definitions={repart}", str(raw)], check=True, capture_output=True)
    uki.write_bytes(b"MZ" + os.urandom(5_000))
    return Disk(
        raw=raw, uki=uki, root_hash="bb" * 32, pcr4="cc" * 32, pcr11={"enter-initrd": "dd" * 32, "ready": READY}
    )


def test_the_build_leaves_a_file_that_boxes_take_once_its_owner_signed_it(disk: Disk, tmp_path: Path) -> None:
    unsigned = write_update(tmp_path, disk=disk)
    owner = OwnerKey.generate()
    installed = Installed(model=MODEL, version="0.0.9", floor=1)

    def judge(signed: SignedStatement) -> UpdateStatement:
        return require_update(signed, owner.public, installed)

    with pytest.raises(Rejected, match="update_unsigned"):
        read_update(unsigned, judge)
    statement = read_update(unsigned, lambda signed: read_update_statement(signed.statement))
    assert (statement.number, statement.pcr11.hex(), statement.root_hash.hex()) == (UNNUMBERED, READY, disk.root_hash)
    signed = tmp_path / "signed.update"
    write_signed(unsigned, signed, owner.sign(UPDATE, replace(statement, number=2).encode()))
    parts: dict[str, bytes] = {}
    taken = read_update(
        signed,
        lambda each: require_update(each, owner.public, installed),
        lambda part, content: parts.update({part: parts.get(part, b"") + content}),
    )
    assert (taken.version, taken.number) == (version(), 2)
    assert parts["uki"] == disk.uki.read_bytes()
    assert len(parts["root"]) == len(parts["verity"]) == 65_536


def test_the_same_image_is_the_same_file(disk: Disk, tmp_path: Path) -> None:
    first = write_update(tmp_path, disk=disk).read_bytes()
    assert write_update(tmp_path, disk=disk).read_bytes() == first


def test_units_and_process_meet_at_the_same_places() -> None:
    service, path = ((UNITS / f"tillstone-update.{kind}").read_text() for kind in ("service", "path"))
    places = Update()
    spool = STATE / places.spool_path
    assert f"--spool {spool} " in service
    assert f"--report {places.report_path}\n" in service
    assert f"StateDirectory={places.report_path.parent.name}\n" in service
    assert f"ConditionPathExists={spool / REQUEST_FILE}\n" in service
    assert f"PathChanged={spool / REQUEST_FILE}\n" in path
    assert places.image_path == Path("/usr/lib/os-release")


def test_the_installer_starts_what_the_unit_says() -> None:
    service = (UNITS / "tillstone-update.service").read_text()
    found = re.search(r"^ExecStart=\S+ -I -m (\S+) (.*)$", service, re.MULTILINE)
    assert found is not None
    assert found[1] == "appliance.installer"
    options = re.findall(r"--[a-z-]+", found[2])
    assert options == ["--spool", "--trust", "--report"]


def test_a_torn_partition_table_is_read_from_its_copy() -> None:
    assert "gpt" in definition.items("kernel-options.txt")
