"""`python -m appliance.installer`: the only program of a box that writes to its disk's slots; root runs it, once.

Owns where things lie on a machine, and the report. Runs when the process asks, and once in each start while a request
stands; restarts the machine when an update was installed. Must never take a word of the process for granted: what it
finds in the spool is verified as a stranger's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from appliance.evidence.update import Installed
from appliance.installer.install import Installer, Running
from appliance.ledger.recover import fsync_folder
from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from appliance.model.errors import TillstoneError
from appliance.wire.installer import REPORT_BYTES_MAX, REQUEST_FILE, UPDATE_FILE, Installing, Report
from drivers.slots.blocks import DiskBlocks
from drivers.slots.boot_entries import BootEntries
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import POLICY_FLOOR_INDEX, read_counter
from drivers.tpm.errors import TpmError

_RESTART: Final = ("/usr/bin/systemctl", "--no-block", "reboot")
_ROOT_HASH: Final = re.compile(r"(?:^|\s)roothash=([0-9a-f]{64})(?:\s|$)")
_ASKED: Final = re.compile(r"[0-9a-f]{32}\Z")


def main() -> int:
    """Settle the request of the spool; 0 when its report is written, 1 when it has to be tried again."""
    arguments = _arguments()
    os.environ.setdefault("TSS2_LOG", "all+none")
    try:
        report = _settle(arguments)
    except (OSError, ValueError, TillstoneError, TpmError) as trouble:
        sys.stderr.write(f"installer: {trouble}\n")
        return 1
    sys.stdout.write(f"installer: {report.state} {report.version} {report.code} {report.detail}\n")
    if report.state is Installing.INSTALLED and not arguments.stay:
        subprocess.run(_RESTART, check=True)  # noqa: S603 - a constant
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m appliance.installer")
    parser.add_argument("--spool", type=Path, required=True, help="where the process leaves what it wants installed")
    parser.add_argument("--trust", type=Path, required=True, help="trust.json, which pins the owner")
    parser.add_argument("--report", type=Path, required=True, help="what the process may read about it")
    parser.add_argument("--tcti", default="device:/dev/tpmrm0")
    parser.add_argument("--esp", type=Path, default=Path("/efi"))
    parser.add_argument("--disk", type=Path, help="found by the running root unless it is named")
    parser.add_argument("--kernel", type=Path, default=Path("/proc"), help="where the kernel tells of this boot")
    parser.add_argument("--os-release", type=Path, default=Path("/usr/lib/os-release"))
    parser.add_argument("--stay", action="store_true", help="do not restart the machine")
    return parser.parse_args()


def _settle(arguments: argparse.Namespace) -> Report:
    asked = (arguments.spool / REQUEST_FILE).read_text()[:64]
    if _ASKED.match(asked) is None:
        raise ValueError("the request has no name")
    with closing(TpmContext(arguments.tcti)) as tpm:
        floor = read_counter(tpm, POLICY_FLOOR_INDEX)
    running = _running(arguments.kernel, arguments.os_release, floor)
    with (arguments.trust).open("rb") as file:
        owner = load_trust(file.read(TRUST_BYTES_MAX + 1)).owner
    with closing(DiskBlocks(arguments.disk or _disk_of(running.root_hash))) as blocks:
        installer = Installer(blocks=blocks, entries=BootEntries(arguments.esp), owner=owner, running=running)
        report = installer.settle(arguments.spool / UPDATE_FILE, asked, _read(arguments.report))
    _write(arguments.report, report)
    return report


def _running(kernel: Path, os_release: Path, floor: int) -> Running:
    found = _ROOT_HASH.search((kernel / "cmdline").read_text())
    facts = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', os_release.read_text(), re.MULTILINE))
    if found is None or "IMAGE_VERSION" not in facts:
        raise ValueError("this machine does not run from an image")
    return Running(
        root_hash=bytes.fromhex(found[1]),
        installed=Installed(model=facts.get("TILLSTONE_MODEL", ""), version=facts["IMAGE_VERSION"], floor=floor),
        boot=(kernel / "sys/kernel/random/boot_id").read_text().strip(),
    )


def _disk_of(root_hash: bytes) -> Path:
    """The whole disk on which the running root's partition lies."""
    partition = (Path("/dev/disk/by-partuuid") / str(UUID(bytes=root_hash[:16]))).resolve(strict=True)
    return Path("/dev") / (Path("/sys/class/block") / partition.name).resolve(strict=True).parent.name


def _read(path: Path) -> Report | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(REPORT_BYTES_MAX), type=Report)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(path: Path, report: Report) -> None:
    """Whole or not at all, for the process to read."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(msgspec.json.encode(report))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    fsync_folder(path.parent)


if __name__ == "__main__":
    sys.exit(main())
