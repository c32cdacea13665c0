"""Owns the promises of the ceremony in the image: a sealed unit, all of its code, a network that is taken over."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from image.definition import DEFINITION, items
from image.ours import PLACE, add_ours
from tests.unit.image.test_definition import program

SYSTEM = DEFINITION / "root/usr/lib/systemd/system"
EXPOSURE_MAX = 1.5
SETTINGS = "/var/lib/tillstone/tillstone.toml"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our code as the release image has it."""
    root = tmp_path_factory.mktemp("root")
    (root / "usr/lib/python3/dist-packages").mkdir(parents=True)
    (root / PLACE).mkdir(parents=True)
    add_ours(root, "release")
    return root / PLACE


@pytest.mark.parametrize("module", ["provisioning.ceremony", "provisioning.token", "appliance"])
def test_the_release_image_has_all_that_the_ceremony_imports(release: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        input=b"{}",
        capture_output=True,
        cwd=release,
        env={"PYTHONPATH": str(release)},
        check=False,
    )
    assert b"ModuleNotFoundError" not in done.stderr, done.stderr.decode()
    assert done.returncode == 0 or module == "provisioning.token"


def test_a_dry_run_of_the_ceremony_needs_nothing_else(release: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "provisioning.ceremony", "--dry-run", "--dir", tmp_path / "box", "--stick", stick],
        capture_output=True,
        text=True,
        cwd=release,
        env={"PYTHONPATH": str(release)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (stick / "provision.txt").read_text() == done.stdout != ""


def test_every_named_part_has_a_reason() -> None:
    lines = (DEFINITION / "provisioning.txt").read_text().splitlines()[1:]
    assert len(lines) == len(items("provisioning.txt"))
    assert all(re.fullmatch(r"\S+ +# .{8,}", line) for line in lines), lines


def test_the_unit_is_as_sealed_as_the_appliances() -> None:
    unit = SYSTEM / "tillstone-provision.service"
    command = [program("systemd-analyze"), "security", "--offline=true", "--threshold=100", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(r"exposure level for tillstone-provision.service: ([\d.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= EXPOSURE_MAX
    assert "PrivateNetwork=yes" in unit.read_text()


def test_a_box_that_has_its_settings_is_not_provisioned_again() -> None:
    assert f"ConditionPathExists=!{SETTINGS}" in (SYSTEM / "tillstone-provision.service").read_text()
    assert f"ConditionPathExists={SETTINGS}" in (SYSTEM / "tillstone-site.service").read_text()


def test_nothing_on_the_stick_runs() -> None:
    options = re.search(r"^Options=(.*)$", (SYSTEM / "run-stick.mount").read_text(), re.M)
    assert options is not None
    assert {"noexec", "nodev", "nosuid"} <= set(options[1].split(","))


def test_the_network_of_the_site_is_where_the_image_takes_it_from() -> None:
    tmpfiles = (DEFINITION / "root/usr/lib/tmpfiles.d/tillstone-site.conf").read_text()
    assert "/var/lib/tillstone/network/10-site.conf" in tmpfiles
    assert "/run/systemd/network/80-lan.network.d/10-site.conf" in tmpfiles
    assert (DEFINITION / "root/usr/lib/systemd/network/80-lan.network").exists()
