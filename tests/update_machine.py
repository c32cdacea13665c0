"""A small disk as an image lays it out, and what a boot loader would make of it."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from appliance.evidence.update import Installed
from appliance.installer.install import Running
from drivers.slots.boot_entries import BootEntries
from tests.update_kit import FLOOR, MODEL, OLD, image

_SECTOR: Final = 512
_DEFINITIONS: Final = {
    "00-verity-a": ("root-verity", "tillstone_1.0.0_verity", 64),
    "10-root-a": ("root", "tillstone_1.0.0", 512),
    "20-verity-b": ("root-verity", "_empty", 64),
    "30-root-b": ("root", "_empty", 512),
    "40-state": ("var", "state", 64),
}


class TestMachine:
    """The disk as a file, the boot partition as a folder, with the image `OLD` running from slot A."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = folder / "disk.raw"
        self.esp = folder / "esp"
        self.spool = folder / "spool"

    @classmethod
    def make(cls, folder: Path) -> TestMachine:
        if shutil.which("systemd-repart") is None:
            pytest.skip("not installed: systemd-repart")
        machine = cls(folder)
        definitions = folder / "repart.d"
        definitions.mkdir(parents=True)
        for name, (kind, label, kilobytes) in _DEFINITIONS.items():
            size = f"SizeMinBytes={kilobytes}K\nSizeMaxBytes={kilobytes}K\n"
            (definitions / f"{name}.conf").write_text(f"[Partition]\nType={kind}\nLabel={label}\n{size}")
        command = ["systemd-repart", "--dry-run=no", "--empty=create", "--size=4M", "--no-pager"]
        subprocess.run([*command, f"--definitions={definitions}", machine.disk], check=True, capture_output=True)
        old = image(OLD)
        for name, content, identifier in (
            ("tillstone_1.0.0", old.root, old.root_hash[:16]),
            ("tillstone_1.0.0_verity", old.verity, old.root_hash[16:]),
        ):
            machine._fill(name, content, UUID(bytes=identifier))
        machine._fill("state", b"every sale there ever was", None)
        (machine.esp / "EFI/Linux").mkdir(parents=True)
        (machine.esp / f"EFI/Linux/tillstone_{OLD}.efi").write_bytes(old.uki)
        machine.spool.mkdir()
        return machine

    def copy(self, folder: Path) -> TestMachine:
        shutil.copytree(self.folder, folder)
        return TestMachine(folder)

    @property
    def running(self) -> Running:
        installed = Installed(model=MODEL, version=OLD, floor=FLOOR)
        return Running(root_hash=image(OLD).root_hash, installed=installed, boot="first-boot")

    def rows(self) -> dict[str, tuple[UUID, int, int]]:
        """Partitions by name, read from whichever copy of the table is right: identifier, offset, size."""
        content = self.disk.read_bytes()
        entries = _entries(content, 1) or _entries(content, len(content) // _SECTOR - 1)
        assert entries is not None, "neither copy of the partition table is right"
        return dict(entries)

    def starts(self) -> set[str]:
        """Versions that a boot loader could start: a whole kernel image that may be tried, and its whole slot."""
        found = set()
        for entry in BootEntries(self.esp).all():
            release = image(entry.version)
            if entry.tries_left == 0 or entry.path.read_bytes() != release.uki:
                continue
            slot = {identifier: (offset, size) for identifier, offset, size in self.rows().values()}
            root = slot.get(UUID(bytes=release.root_hash[:16]))
            verity = slot.get(UUID(bytes=release.root_hash[16:]))
            if root and verity and self._holds(root[0], release.root) and self._holds(verity[0], release.verity):
                found.add(entry.version)
        return found

    def kept(self) -> str:
        """A digest over what an update must never touch: the running slot's bytes, its kernel image, the state."""
        content = self.disk.read_bytes()
        digest = hashlib.sha256()
        for name in ("tillstone_1.0.0", "tillstone_1.0.0_verity", "state"):
            identifier, offset, size = self.rows()[name]
            digest.update(identifier.bytes + content[offset : offset + size])
        digest.update((self.esp / f"EFI/Linux/tillstone_{OLD}.efi").read_bytes())
        return digest.hexdigest()

    def _holds(self, offset: int, content: bytes) -> bool:
        return self.disk.read_bytes()[offset : offset + len(content)] == content

    def _fill(self, name: str, content: bytes, identifier: UUID | None) -> None:
        """Write a partition's first bytes; the identifier by other code than the one under test."""
        disk = bytearray(self.disk.read_bytes())
        _, offset, _ = self.rows()[name]
        disk[offset : offset + len(content)] = content
        if identifier is not None:
            for lba in (1, len(disk) // _SECTOR - 1):
                _identify(disk, lba, name, identifier)
        self.disk.write_bytes(disk)


def _entries(content: bytes, lba: int) -> Mapping[str, tuple[UUID, int, int]] | None:
    header = content[lba * _SECTOR : lba * _SECTOR + 92]
    if header[:8] != b"EFI PART" or zlib.crc32(header[:16] + bytes(4) + header[20:92]) != _u32(header, 16):
        return None
    (first,), count, size = struct.unpack_from("<Q", header, 72), _u32(header, 80), _u32(header, 84)
    table = content[first * _SECTOR : first * _SECTOR + count * size]
    if zlib.crc32(table) != _u32(header, 88):
        return None
    found: dict[str, tuple[UUID, int, int]] = {}
    for at in range(0, len(table), size):
        begins, ends = struct.unpack_from("<QQ", table, at + 32)
        name = table[at + 56 : at + 128].decode("utf-16-le").rstrip("\0")
        if any(table[at : at + 16]):
            found[f"{name}{at}" if name == "_empty" else name] = (
                UUID(bytes_le=table[at + 16 : at + 32]), begins * _SECTOR, (ends - begins + 1) * _SECTOR,
            )  # fmt: skip
    return found


def _identify(disk: bytearray, lba: int, name: str, identifier: UUID) -> None:
    at = lba * _SECTOR
    (first,), count, size = struct.unpack_from("<Q", disk, at + 72), _u32(disk, at + 80), _u32(disk, at + 84)
    begins, ends = first * _SECTOR, first * _SECTOR + count * size
    for entry in range(begins, ends, size):
        if disk[entry + 56 : entry + 128].decode("utf-16-le").rstrip("\0") == name:
            disk[entry + 16 : entry + 32] = identifier.bytes_le
    struct.pack_into("<I", disk, at + 88, zlib.crc32(disk[begins:ends]))
    struct.pack_into("<I", disk, at + 16, 0)
    struct.pack_into("<I", disk, at + 16, zlib.crc32(disk[at : at + 92]))


def _u32(content: bytes | bytearray, at: int) -> int:
    (number,) = struct.unpack_from("<I", content, at)
    return int(number)
