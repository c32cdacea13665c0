"""The disk: root under dm-verity, signed unified kernel image, boot partition.

Owns their order: the kernel image names the root's hash, the boot partition holds the kernel image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.definition import DEFINITION, IMAGE_NAME, DefinitionInvalid, Profile, kernel_options, version
from image.keys import ImageKeys
from image.measured import authenticode, pcr4
from image.root import kernel_release
from image.tools import Tools

# Partition identifiers come from this, so that two builds agree.
_SEED: Final = uuid.uuid5(uuid.NAMESPACE_URL, "tillstone image")
# 4096, repart's choice, is a sector size that Debian 12's firmware cannot read. The volume id is fixed like the seed.
_FAT: Final = {"SYSTEMD_REPART_MKFS_OPTIONS_VFAT": "-S 512 -i 71115703 --invariant"}
_DISK_RULE: Final = DEFINITION / "initrd/usr/lib/udev/rules.d/90-tillstone-disk.rules"
# Where in the start a PCR value is signed for: the state opens in any of these phases.
_PHASES: Final = (
    "enter-initrd",
    "enter-initrd:leave-initrd",
    "enter-initrd:leave-initrd:sysinit",
    "enter-initrd:leave-initrd:sysinit:ready",
)
_LOADER: Final = "EFI/BOOT/BOOTX64.EFI"
# A new slot is tried this often before the boot loader goes back to the other one.
_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What was made.

    Attributes:
        pcr4: hexadecimal, SHA-256 bank: once boot loader and kernel image have been started.
        pcr11: the same by phase of the start.
    """

    raw: Path
    uki: Path
    root_hash: str
    pcr4: str
    pcr11: dict[str, str]


def make_disk(
    tools: Tools, folder: Path, *, root: Path, base: Path, initrd: Path, keys: ImageKeys, profile: Profile
) -> Disk:
    """`folder/disk.raw` and `folder/uki.efi`."""
    raw, uki = folder / "disk.raw", folder / "uki.efi"
    root_hash = _make_root_partition(tools, raw, root)
    pcr11 = _make_uki(
        tools, uki, root=root, kernel=base / "kernel", initrd=initrd, keys=keys,
        options=(f"roothash={root_hash}", *kernel_options(profile)),
    )  # fmt: skip
    loader = base / "tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    _make_boot_partition(tools, raw, folder / "esp", uki=uki, loader=loader, keys=keys)
    started = (folder / "esp" / _LOADER, uki)
    return Disk(raw=raw, uki=uki, root_hash=root_hash, pcr4=pcr4(map(authenticode, started)).hex(), pcr11=pcr11)


def _make_root_partition(tools: Tools, raw: Path, root: Path) -> str:
    command = [*_repart(raw, DEFINITION / "repart"), "--empty=create", f"--root={root}", "--defer-partitions=esp"]
    made = json.loads(tools.run(*command, environment=_FAT))
    (root_hash,) = {str(row["roothash"]) for row in made if row.get("roothash")}
    if f'"{_table_id(raw)}"' not in _DISK_RULE.read_text():
        raise DefinitionInvalid(f"{_DISK_RULE.name} must name the partition table {_table_id(raw)}")
    return root_hash


def _table_id(raw: Path) -> uuid.UUID:
    """The disk's GUID: bytes 56 to 72 of the header in sector 1 (UEFI 2.10, table 5.5)."""
    with raw.open("rb") as file:
        file.seek(512 + 56)
        return uuid.UUID(bytes_le=file.read(16))


def _make_uki(
    tools: Tools, uki: Path, *, root: Path, kernel: Path, initrd: Path, keys: ImageKeys, options: tuple[str, ...]
) -> dict[str, str]:
    release = kernel_release(kernel)
    command = ["ukify", "build", f"--linux={kernel / f'boot/vmlinuz-{release}'}", f"--initrd={initrd}"]
    command += [f"--os-release=@{root / 'usr/lib/os-release'}", f"--uname={release}", f"--cmdline={' '.join(options)}"]
    # Debian's own signature is on the kernel inside; the whole image is signed, so that one is not asked for.
    command += ["--signtool=systemd-sbsign", "--no-sign-kernel"]
    command += [f"--secureboot-private-key={keys.private('db')}", f"--secureboot-certificate={keys.certificate('db')}"]
    command += [f"--pcr-private-key={keys.policy_private}", f"--pcr-public-key={keys.policy_public}"]
    command += [f"--phases={' '.join(_PHASES)}", "--pcr-banks=sha256", "--measure", f"--output={uki}"]
    said = tools.run(*command).decode()
    return _measured(said)


def _measured(said: str) -> dict[str, str]:
    """PCR 11 by phase, from the lines that ukify prints, one for each phase in their order."""
    values = re.findall(r"^11:sha256=([0-9a-f]{64})$", said, re.MULTILINE)
    return dict(zip(_PHASES, values, strict=True))


def _make_boot_partition(tools: Tools, raw: Path, esp: Path, *, uki: Path, loader: Path, keys: ImageKeys) -> None:
    for folder in ("EFI/BOOT", "EFI/Linux", "loader"):
        (esp / folder).mkdir(parents=True)
    sign = ["/usr/lib/systemd/systemd-sbsign", "sign", f"--private-key={keys.private('db')}"]
    sign += [f"--certificate={keys.certificate('db')}", f"--output={esp / _LOADER}"]
    tools.run(*sign, loader)
    shutil.copyfile(uki, esp / f"EFI/Linux/{IMAGE_NAME}_{version()}+{_TRIES}.efi")
    # No menu, no editor: the command line is signed, and nobody sits at a keyboard.
    (esp / "loader/loader.conf").write_text("timeout 0\neditor no\nauto-entries no\nauto-firmware no\n")
    for path in [esp, *esp.rglob("*")]:
        os.utime(path, (tools.time, tools.time))
    command = [*_repart(raw, DEFINITION / "repart"), "--empty=allow", f"--root={esp}", f"--copy-source={esp}"]
    tools.run(*command, environment=_FAT)


def _repart(raw: Path, definitions: Path) -> list[str]:
    return [
        "systemd-repart", "--offline=yes", "--dry-run=no", "--size=auto", f"--seed={_SEED}", "--no-pager",
        "--json=short", f"--definitions={definitions}", str(raw),
    ]  # fmt: skip
