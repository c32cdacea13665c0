"""What the firmware will measure of a signed program, computed from its bytes without starting it.

Source: Microsoft, Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash"; TCG PC
Client Platform Firmware Profile 1.06, section 2.3.4.5 (PCR 4); PE format, "Optional Header".
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# What the firmware extends PCR 4 by before the first program runs.
_BEFORE: Final = (b"Calling EFI Application from Boot Option", bytes(4))
_PE32: Final = 0x10B


def authenticode(program: Path) -> bytes:
    """SHA-256 of a PE program without its signatures: the same before and after it is signed. Raises ValueError."""
    octets = program.read_bytes()
    (header,) = struct.unpack_from("<I", octets, 0x3C)
    if octets[header : header + 4] != b"PE\0\0":
        raise ValueError(f"{program.name} is no PE program")
    optional = header + 24
    (magic,) = struct.unpack_from("<H", octets, optional)
    checksum, directory = optional + 64, optional + (128 if magic == _PE32 else 144)
    # The certificate table lies behind all sections, and its place in the directory is a file's, not an address.
    (table,) = struct.unpack_from("<I", octets, directory)
    parts = (octets[:checksum], octets[checksum + 4 : directory], octets[directory + 8 : table or len(octets)])
    return hashlib.sha256(b"".join(parts)).digest()


def pcr4(programs: Iterable[bytes]) -> bytes:
    """PCR 4 of the SHA-256 bank once these programs were started one after the other, each by its `authenticode`."""
    value = bytes(32)
    for digest in (*(hashlib.sha256(event).digest() for event in _BEFORE), *programs):
        value = hashlib.sha256(value + digest).digest()
    return value
