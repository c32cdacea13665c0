"""Kernel images in the boot partition, with the count of tries in their names (UAPI.2 boot loader specification).

    tillstone_0.2.0+3.efi     never tried, three tries left
    tillstone_0.2.0+1-2.efi   tried twice
    tillstone_0.2.0+0-3.efi   given up: the boot loader takes another one
    tillstone_0.2.0.efi       confirmed

Owns those names. A kernel image appears under its name only when it is whole and on the medium.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drivers.slots.errors import SlotFull

TRIES: Final = 3
_FOLDER: Final = Path("EFI/Linux")
_UNFINISHED: Final = "tillstone.new"  # not .efi: the boot loader does not look at it
_NAME: Final = re.compile(r"tillstone_(?P<version>[^+_]+?)(?:\+(?P<left>\d+)(?:-(?P<done>\d+))?)?\.efi\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEntry:
    """One kernel image. `tries_left` is None once it was confirmed."""

    path: Path
    version: str
    tries_left: int | None
    tries_done: int


class BootEntries:
    """Those of the boot partition that is mounted at `place`."""

    def __init__(self, place: Path) -> None:
        self._folder = place / _FOLDER

    def all(self) -> tuple[BootEntry, ...]:
        """Every kernel image of ours."""
        found = []
        for path in sorted(self._folder.iterdir()):
            match = _NAME.match(path.name)
            if match is not None:
                left = match["left"]
                found.append(
                    BootEntry(
                        path=path,
                        version=match["version"],
                        tries_left=None if left is None else int(left),
                        tries_done=int(match["done"] or 0),
                    )
                )
        return tuple(found)

    def of(self, version: str) -> BootEntry | None:
        """The one of `version`; of two, as a power cut during a renaming may leave them, the confirmed one."""
        mine = [entry for entry in self.all() if entry.version == version]
        return min(mine, key=lambda entry: -1 if entry.tries_left is None else entry.tries_left, default=None)

    def remove_all_but(self, version: str) -> None:
        """Nothing but `version` can be started from now on, and no unfinished file takes room."""
        (self._folder / _UNFINISHED).unlink(missing_ok=True)
        for entry in self.all():
            if entry.version != version:
                entry.path.unlink()
        self._sync()

    def put(self, version: str, content: bytes) -> None:
        """Add a kernel image that may be tried `TRIES` times. Raises SlotFull."""
        unfinished = self._folder / _UNFINISHED
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # Its name and its chain of clusters are on the medium before the name that counts is.
            self._sync()
        except OSError as cause:
            unfinished.unlink(missing_ok=True)
            if cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SlotFull(f"the boot partition has no room for {len(content)} bytes") from cause
            raise
        unfinished.rename(self._folder / f"tillstone_{version}+{TRIES}.efi")
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
