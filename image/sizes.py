"""What takes the room in an image, for people. Owns the limits that an image must stay below."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from image.ours import PLACE
from image.sbom import packages_left
from image.workshop import say

MEGABYTE: Final = 1_000_000
DISK_BYTES_MAX: Final = 300 * MEGABYTE
UKI_BYTES_MAX: Final = 30 * MEGABYTE
_SHOWN: Final = 12


class TooLarge(Exception):
    """The image broke its limit; the message says by how much."""


def tell_sizes(place: Path, *, root: Path, base: Path) -> None:
    """Print the sizes and what takes the room. Raises TooLarge."""
    manifest = json.loads((place / "manifest.json").read_text())
    sizes = manifest["sizes"]
    say(f"root hash {manifest['root_hash']}")
    disk, stored = _mb(sizes["disk_bytes"]), _mb(sizes["disk_stored_bytes"])
    say(
        f"disk {disk} ({stored} stored), kernel image {_mb(sizes['uki_bytes'])},"
        f" of it initrd {_mb(sizes['initrd_bytes'])}"
    )
    room = {f"Debian: {name}": size for name, size in packages_left(base, root).items()}
    for path in (root / PLACE).iterdir():
        room[f"Python: {path.name}"] = _size(path)
    room["Python: bytecode of the standard library"] = sum(
        path.stat().st_size for path in (root / "usr/lib/python3.13").rglob("*.pyc")
    )
    say(f"before compression the root holds {_mb(_size(root))}, most of it:")
    for name, size in sorted(room.items(), key=lambda row: -row[1])[:_SHOWN]:
        say(f"  {_mb(size):>10}  {name}")
    for name, size, most in (
        ("disk", sizes["disk_bytes"], DISK_BYTES_MAX),
        ("kernel image", sizes["uki_bytes"], UKI_BYTES_MAX),
    ):
        if size > most:
            raise TooLarge(f"the {name} takes {_mb(size)}, at most {_mb(most)} are allowed")


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())
    return path.lstat().st_size


def _mb(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"
