"""Owns the promise that what an image's manifest expects is what firmware measures."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from image.measured import authenticode, pcr4

_HEADER = 0x80
_OPTIONAL = _HEADER + 24
_CHECKSUM, _DIRECTORY = _OPTIONAL + 64, _OPTIONAL + 144


def program(*, signature: bytes = b"", checksum: int = 0, code: bytes = b"code" * 64) -> bytes:
    """A PE32+ program as far as its hash is concerned."""
    octets = bytearray(512)
    octets[:2] = b"MZ"
    struct.pack_into("<I", octets, 0x3C, _HEADER)
    octets[_HEADER : _HEADER + 4] = b"PE\0\0"
    struct.pack_into("<H", octets, _OPTIONAL, 0x20B)
    octets += code
    if signature:
        struct.pack_into("<II", octets, _DIRECTORY, len(octets), len(signature))
        struct.pack_into("<I", octets, _CHECKSUM, checksum)
    return bytes(octets) + signature


def hashed(folder: Path, octets: bytes) -> bytes:
    (folder / "program.efi").write_bytes(octets)
    return authenticode(folder / "program.efi")


def test_a_signature_does_not_change_what_is_measured(tmp_path: Path) -> None:
    plain = hashed(tmp_path, program())
    assert hashed(tmp_path, program(signature=b"s" * 1584, checksum=7)) == plain
    assert hashed(tmp_path, program(code=b"cold" * 64)) != plain


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"program\.efi"):
        hashed(tmp_path, bytes(512))


def test_pcr_4_is_what_a_machine_had() -> None:
    # From the event log and the TPM of a machine that started the developer image: OVMF 2022.11, systemd-boot 257.
    loader = bytes.fromhex("937f1f3b0b3fed2034f1fddcc68c835f3e4ba190143f79693816e5a9d1718da5")
    kernel_image = bytes.fromhex("ec01575934f70f960922c48492ea73aa9ef18972dcd218c080d400a6c8457575")
    assert pcr4([loader, kernel_image]).hex() == "041e8dbf6ef3a7fb1c38e69992276cc467d298dbf5b79e7874adc71ae3f0f2cb"
