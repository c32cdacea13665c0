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
_SHOWN: Final = 8


class TooLarge(Exception):
    """The image broke its limit; the message says by how much."""


def tell_sizes(place: Path, *, base: Path, root: Path, initrd: Path) -> None:
    """Print the sizes and what takes the room. Raises TooLarge.

    Args:
        root, initrd: their files before they were packed.
    """
    manifest = json.loads((place / "manifest.json").read_text())
    sizes = manifest["sizes"]
    say(f"root hash {manifest['root_hash']}")
    say(f"disk {_mb(sizes['disk_bytes'])} ({_mb(sizes['disk_stored_bytes'])} stored)")
    python = {f"Python: {path.name}": _size(path) for path in (root / PLACE).iterdir()}
    bytecode = sum(path.stat().st_size for path in (root / "usr/lib/python3.13").rglob("*.pyc"))
    _tell_room("root", root, base, python | {"Python: bytecode of the standard library": bytecode})
    (kernel,) = (base / "kernel/boot").glob("vmlinuz-*")
    say(
        f"kernel image {_mb(sizes['uki_bytes'])}: kernel {_mb(kernel.stat().st_size)},"
        f" initrd {_mb(sizes['initrd_bytes'])}, and the stub"
    )
    _tell_room("initrd", initrd, base, {"kernel modules": _size(initrd / "usr/lib/modules")})
    for name, size, most in (
        ("disk", sizes["disk_bytes"], DISK_BYTES_MAX),
        ("kernel image", sizes["uki_bytes"], UKI_BYTES_MAX),
    ):
        if size > most:
            raise TooLarge(f"the {name} takes {_mb(size)}, at most {_mb(most)} are allowed")


def _tell_room(title: str, tree: Path, base: Path, others: dict[str, int]) -> None:
    room = {f"Debian: {name}": size for name, size in packages_left(base, tree).items()} | others
    say(f"before compression the {title} holds {_mb(_size(tree))}, most of it:")
    for name, size in sorted(room.items(), key=lambda row: -row[1])[:_SHOWN]:
        say(f"  {_mb(size):>10}  {name}")


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())
    return path.lstat().st_size


def _mb(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"
