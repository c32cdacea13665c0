"""Owns the promise that tampering hits what it says: partitions are found where the UEFI specification puts them."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest

from tests.rig.tamper import partitions

SECTOR = 512


def entry(label: str, first: int, last: int) -> bytes:
    """128 bytes of table 5-6: type, identifier, first and last block, attributes, name."""
    return struct.pack(
        "<16s16sQQQ72s", uuid.uuid4().bytes, uuid.uuid4().bytes, first, last, 0, label.encode("utf-16-le")
    )


def test_partitions_lie_where_their_table_says(tmp_path: Path) -> None:
    entries = entry("esp", 2048, 6143) + entry("tillstone_0.1.0", 8192, 10239) + bytes(128)
    # Table 5-5: signature, revision, size, CRC, reserved, own and other place, first and last usable block, disk.
    header = struct.pack("<8s4sIIIQQQQ16s", b"EFI PART", b"\0\0\1\0", 92, 0, 0, 1, 99_999, 34, 90_000, bytes(16))
    header += struct.pack("<QIII", 2, 3, 128, 0)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(SECTOR) + header.ljust(SECTOR, b"\0") + entries)
    assert partitions(disk) == {
        "esp": range(2048 * SECTOR, 6144 * SECTOR),
        "tillstone_0.1.0": range(8192 * SECTOR, 10240 * SECTOR),
    }


def test_disk_without_a_table_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="no GPT"):
        partitions(disk)
