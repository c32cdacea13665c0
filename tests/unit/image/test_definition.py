"""Owns the promises of the image's definition that can be checked without building: lists, units, firewall, options."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from image import definition
from image.definition import DEFINITION, items
from tests.architecture.sources import nodes

UNITS = DEFINITION / "root/usr/lib/systemd/system"
UNIT = UNITS / "tillstone.service"
FIREWALL = DEFINITION / "root/etc/nftables.conf"
EXPOSURE_MAX = 1.5
LISTS = sorted(path.name for path in DEFINITION.glob("*.txt"))
# Modules of Python packages whose name is not the module's.
MODULE_OF = {"pyserial": "serial", "python-pkcs11": "pkcs11", "typing-extensions": "typing_extensions"}
MODULE_OF |= {
    "opentelemetry-api": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "tpm2-pytss": "tpm2_pytss",
}

# What nobody must find in a release image: ways to get a prompt, to fetch or install, to compile, to become another.
NEVER = {
    "sh", "bash", "dash", "busybox", "perl", "apt", "apt-get", "dpkg", "pip", "pip3", "gcc", "cc", "ld", "as", "make",
    "su", "sudo", "login", "agetty", "sulogin", "passwd", "ssh", "sshd", "curl", "wget", "nc", "gdb", "strace",
    "chroot", "unshare", "nsenter", "setpriv", "runuser", "systemd-run", "systemd-nspawn", "vi", "ed", "awk", "tar",
}  # fmt: skip
# Changing one of these is a decision of its own: it changes what an attacker on the box can do.
HARDENING = {
    "lockdown=confidentiality", "module.sig_enforce=1", "init_on_alloc=1", "init_on_free=1", "slab_nomerge",
    "page_alloc.shuffle=1", "randomize_kstack_offset=on", "vsyscall=none", "debugfs=off",
    "proc_mem.force_override=never", "oops=panic", "ia32_emulation=0", "vdso32=0", "iommu.passthrough=0",
    "iommu.strict=1", "tsx=off",
    "panic=10", "systemd.verity_root_options=panic-on-corruption", "systemd.import_credentials=no",
}  # fmt: skip


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"not installed: {name}")
    return found


@pytest.mark.parametrize("name", LISTS)
def test_no_list_names_a_thing_twice(name: str) -> None:
    assert len(items(name)) == len(set(items(name))) > 0


def test_every_package_asked_for_is_locked() -> None:
    locked = definition.locked_packages()
    kernel = definition.kernel_package()
    assert {name for name in items("packages.txt") if not name.startswith("linux-image")} <= set(locked)
    assert kernel.endswith(next(n for n in items("packages.txt") if n.startswith("linux-image")).split("-", 2)[2])
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.+:~-]*", version) for version in locked.values())


def test_wheels_are_locked_with_hashes_and_complete() -> None:
    wheels = definition.locked_wheels()
    assert all("--hash=sha256:" in wheel for wheel in wheels)
    modules = {MODULE_OF.get(name, name.replace("-", "_")) for name in items("wheels.txt")}
    imported: set[str] = set()
    for _, node in nodes("appliance", "drivers"):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            imported.add(node.module.split(".")[0])
    assert imported - {"appliance", "drivers"} - set(sys.stdlib_module_names) <= modules


def test_release_programs_are_few_and_give_nobody_a_prompt() -> None:
    programs = set(items("programs.txt"))
    assert not programs & NEVER
    assert len(programs) <= 16
    assert all("#" in line for line in (DEFINITION / "programs.txt").read_text().splitlines())


def test_what_opens_the_state_is_kept() -> None:
    # systemd-cryptsetup waits without an end for `dmsetup udevcomplete` of 95-dm-notify.rules.
    assert {"systemd-cryptsetup", "dmsetup", "udevadm", "fsck.ext4", "mount"} <= set(items("programs.txt"))


def test_every_kernel_option_has_a_reason() -> None:
    for name in ("kernel-options.txt", "developer-options.txt"):
        lines = [line for line in (DEFINITION / name).read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(re.fullmatch(r"\S+ +# .{8,}", line) for line in lines), lines


def test_hardening_options_are_all_there() -> None:
    assert set(definition.kernel_options("release")) >= HARDENING


def test_every_kernel_setting_stands_once_below_its_reason() -> None:
    lines = (DEFINITION / "root/usr/lib/sysctl.d/90-tillstone.conf").read_text().splitlines()
    assert all(re.fullmatch(r"#.{8,}|[a-z0-9_.]+ = \S.*", line) for line in lines)
    names = [line.split(" = ")[0] for line in lines if line[0] != "#"]
    assert len(names) == len(set(names)) > 20
    assert lines[0][0] == "#"


def test_the_developer_profile_only_adds() -> None:
    release, developer = definition.kernel_options("release"), definition.kernel_options("developer")
    assert developer[: len(release)] == release


def test_the_firewall_is_one_that_nft_takes(tmp_path: Path) -> None:
    done = subprocess.run(
        [program("nft"), "--check", "--file", str(FIREWALL)], capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("not permitted here: nft --check needs CAP_NET_ADMIN")
    assert done.returncode == 0, done.stderr


def test_the_firewall_lets_in_nothing_by_default() -> None:
    text = FIREWALL.read_text()
    for hook in ("input", "forward", "output"):
        assert f"hook {hook} priority filter; policy drop;" in text
    opened = re.findall(r"tcp dport \{ ([\d, ]+) \}", text)
    assert opened == ["8443, 9080"]


def test_the_appliance_alone_may_call_out() -> None:
    uid = re.search(r"^u! tillstone (\d+) ", (DEFINITION / "root/usr/lib/sysusers.d/tillstone.conf").read_text(), re.M)
    assert uid is not None
    assert f"meta skuid {uid[1]} meta l4proto tcp accept" in FIREWALL.read_text()
    assert FIREWALL.read_text().count("meta l4proto tcp accept") == 1


@pytest.mark.parametrize("name", ["tillstone", "tillstone-state-key", "tillstone-update"])
def test_the_unit_is_as_sealed_as_promised(name: str) -> None:
    command = [program("systemd-analyze"), "security", "--offline=true", str(UNITS / f"{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(rf"exposure level for {name}.service: ([\d.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= EXPOSURE_MAX
    assert "ignoring" not in done.stderr


def test_the_unit_keeps_secrets_in_memory_and_dies_when_silent() -> None:
    text = UNIT.read_text()
    for line in ("LimitMEMLOCK=infinity", "LimitCORE=0", "WatchdogSec=10", "User=tillstone", "Type=notify"):
        assert f"\n{line}\n" in text


def test_slots_are_twins_and_big_enough() -> None:
    folder = DEFINITION / "root/usr/lib/repart.d"
    read = {path.stem: _partition(path) for path in folder.glob("*.conf")}
    for part, a, b in (("verity", "10-verity-a", "20-verity-b"), ("root", "11-root-a", "21-root-b")):
        assert read[a]["Type"] == read[b]["Type"], part
        assert read[a]["SizeMinBytes"] == read[a]["SizeMaxBytes"] == read[b]["SizeMinBytes"] == read[b]["SizeMaxBytes"]
    assert read["30-state"]["Encrypt"] == "tpm2"


def _partition(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and line[0] not in "#[")
