"""Owns the promises of the ceremony in the image: a sealed unit, all of its code, a network that is taken over."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from image.definition import DEFINITION, PROJECT, items
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


def test_the_release_image_has_every_module_that_its_units_lead_to(release: Path) -> None:
    # Also what is imported only once it is needed: on a box nobody would be there to see it missing.
    units = "".join(path.read_text() for path in sorted(SYSTEM.glob("*.service")))
    wanted = {*re.findall(r" -I -m (\S+)", units), "provisioning.token"}
    assert {"appliance", "provisioning.ceremony", "provisioning.state_key"} < wanted
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        found = module_file(PROJECT, name)
        if name in seen or found is None:
            continue
        seen.add(name)
        assert module_file(release, name) is not None, f"{name} is not in the release image"
        wanted |= {name.rpartition(".")[0], f"{name}.__main__", *imported_by(found)}


def module_file(root: Path, name: str) -> Path | None:
    """The source of one of our modules; None for what is not ours, or no module."""
    place = root / name.replace(".", "/")
    if name.split(".")[0] not in {"appliance", "drivers", "provisioning"}:
        return None
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def imported_by(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


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
