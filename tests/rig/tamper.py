"""Machines that must not start, each a copy of one that sells: a changed root, a changed kernel image, another TPM.

And a release machine that nobody has provisioned: it waits, and nobody gets a prompt.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from image.tools import run_program
from provisioning.swtpm import make_swtpm
from tests.rig.box import START_S_MAX, Box, BoxFailed
from tests.rig.lan import BOX, POS_PORT

BLOCK_BYTES: Final = 4_096
_SECTOR_BYTES: Final = 512
_FLIP_EVERY_BLOCKS: Final = 64
_SELLS: Final = r"bench: invitation|\"event\":\"box.ready\""
_OPTION: Final = b"lockdown=confidentiality"
_WEAKER: Final = b"lockdown=none           "
_AFTERMATH_S: Final = 60.0
_TYPED_TIMES: Final = 6
_TYPED_EVERY_S: Final = 5.0
_CONNECT_S_MAX: Final = 3.0


def copy_machine(machine: Path, folder: Path) -> Path:
    """A machine like it, switched off."""
    shutil.rmtree(folder, ignore_errors=True)
    run_program(["cp", "-a", "--reflink=auto", "--sparse=always", str(machine), str(folder)])
    return folder


def partitions(disk: Path) -> dict[str, range]:
    """Bytes of each partition by its label (UEFI specification, 5.3.2 and 5.3.3: the GPT's header and entries)."""
    with disk.open("rb") as file:
        file.seek(_SECTOR_BYTES)
        header = file.read(_SECTOR_BYTES)
        if header[:8] != b"EFI PART":
            raise ValueError(f"{disk} has no GPT")
        entries_at, count, size = (
            int.from_bytes(header[at:end], "little") for at, end in ((72, 80), (80, 84), (84, 88))
        )
        file.seek(entries_at * _SECTOR_BYTES)
        entries = [file.read(size) for _ in range(count)]
    found = {}
    for entry in entries:
        first, last = (int.from_bytes(entry[at : at + 8], "little") for at in (32, 40))
        if any(entry[:16]):
            label = entry[56:128].decode("utf-16-le").rstrip("\0")
            found[label] = range(first * _SECTOR_BYTES, (last + 1) * _SECTOR_BYTES)
    return found


def flip_root(machine: Path) -> int:
    """Flip a bit in every 64th block of slot A's root; how many."""
    with _own_image(machine) as disk:
        (root,) = [place for label, place in partitions(disk).items() if _is_root(label)]
        places = range(root.start, root.stop, _FLIP_EVERY_BLOCKS * BLOCK_BYTES)
        with disk.open("r+b") as file:
            for at in places:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1]))
    return len(places)


def weaken_command_line(machine: Path) -> None:
    """Change one option in the kernel image's own command line, where it lies on the boot partition."""
    with _own_image(machine) as disk:
        content = disk.read_bytes()
        if content.count(_OPTION) != 1:
            raise BoxFailed("the kernel's command line lies not once on the disk")
        with disk.open("r+b") as file:
            file.seek(content.index(_OPTION))
            file.write(_WEAKER)


def replace_tpm(machine: Path) -> None:
    """Another TPM than the one that the machine began with."""
    shutil.rmtree(machine / "tpm")
    make_swtpm(machine / "tpm")


def must_not_start(box: Box, pattern: str) -> str:
    """Power on; the words that say why it does not start. Raises BoxFailed when it sells, or says nothing."""
    box.power_on()
    try:
        said = box.wait_for(f"{pattern}|{_SELLS}", START_S_MAX)
        at_s = box.up_s
        box.wait_for_end(_AFTERMATH_S)
        if re.search(_SELLS, box.said()):
            raise BoxFailed(f"it started, and sells, although it said: {said[0]}")
        return f"{said[0].strip()} after {at_s:.0f} s"
    finally:
        box.suspicions = []
        box.cut_power()


def must_wait(box: Box) -> str:
    """Power on a release machine: its network comes up, its doors stay shut, and what is typed gets no answer.

    Raises:
        BoxFailed: somebody answers, or nothing comes up.
    """
    box.power_on()
    try:
        while not _is_shut():
            if box.up_s > START_S_MAX:
                raise BoxFailed(f"no network came up:\n{box.said()[-800:]}")
        up_s = box.up_s
        for _ in range(_TYPED_TIMES):
            # What a shell would answer cannot come from the echo of a terminal.
            box.machine.console.type("\necho $((111 * 9))\n")
            box.wait_for_end(_TYPED_EVERY_S)
        said = box.said()
        if box.machine.qemu.poll() is not None or not _is_shut():
            raise BoxFailed(f"it does not wait:\n{said[-800:]}")
        if "999" in said or "login:" in said:
            raise BoxFailed(f"somebody answers at the console:\n{said[-800:]}")
        return f"its network was up after {up_s:.0f} s, its doors shut; {len(said.splitlines())} lines on its console"
    finally:
        box.cut_power()


def _is_shut() -> bool:
    """Whether a machine is there and nobody listens at the terminals' door. Raises BoxFailed where somebody does."""
    try:
        with socket.create_connection((BOX, POS_PORT), timeout=_CONNECT_S_MAX):
            raise BoxFailed("the terminals' door is open")
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def _is_root(label: str) -> bool:
    return label.startswith("tillstone_") and not label.endswith("_verity")


@contextmanager
def _own_image(machine: Path) -> Iterator[Path]:
    """The image under the machine's disk, as a copy that is its own; what the machine wrote lies over it."""
    own, disk = machine / "tampered.raw", str(machine / "disk.qcow2")
    under = json.loads(run_program(["qemu-img", "info", "--output=json", disk]))["full-backing-filename"]
    run_program(["cp", "--reflink=auto", "--sparse=always", under, str(own)])
    yield own
    run_program(["qemu-img", "rebase", "-u", "-F", "raw", "-b", str(own), disk])
