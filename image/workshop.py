"""The build's folder and its parts: each part is made once from what it depends on, and kept until that changes.

Owns stamps and the lines on the screen. Must never keep a part that was cut short: the stamp comes last.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


class WorkshopBusy(Exception):
    """Another build is at work in the same folder."""


Ingredient = str | Path
"""A text, or a file or folder whose content counts."""


@dataclass(slots=True, kw_only=True)
class Workshop:
    """Where parts are made. `parts` counts them for the screen."""

    folder: Path
    parts: int
    fingerprints: dict[str, str] = field(default_factory=dict)

    def part(self, name: str, title: str, ingredients: Iterable[Ingredient], make: Callable[[Path], None]) -> Path:
        """The folder of the part `name`, made now unless it was made from the same ingredients.

        Args:
            ingredients: everything that changes the part; the fingerprint of an earlier part stands for that part.
            make: fills an empty folder.
        """
        began = time.monotonic()
        folder, stamp = self.folder / name, self.folder / f"{name}.made"
        wanted = fingerprint(ingredients)
        self.fingerprints[name] = wanted
        label = f"[{len(self.fingerprints)}/{self.parts}] {title}"
        if stamp.is_file() and stamp.read_text() == wanted and folder.is_dir():
            say(f"{label}: current")
            return folder
        say(label, end="")
        stamp.unlink(missing_ok=True)
        remove_tree(folder)
        folder.mkdir(parents=True)
        try:
            make(folder)
        except BaseException:
            say(f"  FAILED after {time.monotonic() - began:.1f} s")
            raise
        stamp.write_text(wanted)
        say(f"  {time.monotonic() - began:.1f} s")
        return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else makes parts in `folder` meanwhile: two at once would mix their files under a good stamp.

    Raises:
        WorkshopBusy: somebody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise WorkshopBusy(f"another build in {folder.name} is running: wait for its end") from cause
        yield


def fingerprint(ingredients: Iterable[Ingredient]) -> str:
    """SHA-256 over texts and over names, modes and contents of files."""
    digest = hashlib.sha256()
    for ingredient in ingredients:
        if isinstance(ingredient, str):
            _add(digest, "text", ingredient.encode())
            continue
        for path in [ingredient, *sorted(ingredient.rglob("*"))]:
            if "__pycache__" in path.parts or path.is_dir():
                continue
            _add(digest, str(path.relative_to(ingredient)), _content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    return os.readlink(path).encode() if path.is_symlink() else bytes([path.stat().st_mode & 0o111]) + path.read_bytes()


def _add(digest: hashlib._Hash, name: str, content: bytes) -> None:
    digest.update(len(name).to_bytes(4) + name.encode() + len(content).to_bytes(8) + content)


def remove_tree(folder: Path) -> None:
    """Remove the folder if it is there. Stops at another file system: a mount left there is somebody's."""
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        if mount.split(" ")[1].startswith(f"{folder}/"):
            raise OSError(f"something is mounted in {folder}: unmount it first")
    shutil.rmtree(folder, ignore_errors=False) if folder.exists() else None


def say(line: str, end: str = "\n") -> None:
    """Show progress at once."""
    sys.stdout.write(line + end)
    sys.stdout.flush()
