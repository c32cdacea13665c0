"""The world's disk: real files on a memory file system, recorded by `tests/crash/disk_shim.c`, that lose power.

Owns one folder for each life of the box. A crash closes a life: what its disk held is written into the folder of the
next one, so that whatever the dead process still does to its files touches nothing.

* A killed process leaves everything it wrote. A power cut leaves what was synced, and chance decides about the rest.
* Needs the shim in this process (`LD_PRELOAD`) and its three variables; `command.py` starts workers so.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.crash.disk import Change, cut_power, read_changes

FOLDER_VARIABLE: Final = "TILLSTONE_DISK_FOLDER"
_breaks: Final = itertools.count()
LOG_VARIABLE: Final = "TILLSTONE_DISK_LOG"
FAULT_VARIABLE: Final = "TILLSTONE_DISK_FAULT"


class WorldDisk:
    """The disk of one box over all its lives."""

    def __init__(self, template: Path, randomness: random.Random) -> None:
        self._root = Path(os.environ[FOLDER_VARIABLE])
        self._log = Path(os.environ[LOG_VARIABLE])
        self._fault = Path(os.environ[FAULT_VARIABLE])
        self._random = randomness
        self._life = 0
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        self.mend()
        self._base = {file.name: file.read_bytes() for file in sorted(template.iterdir()) if file.is_file()}
        self._since: list[Change] = []  # what killed lives changed since `_base`: a later power cut may still lose it
        self._begin(self._base)

    @property
    def folder(self) -> Path:
        """Of the life that runs."""
        return self._root / f"life-{self._life}" / "ledger"

    @property
    def position(self) -> int:
        """How much was recorded of this life; a place to crash at."""
        return self._log.stat().st_size

    def break_with(self, line: str) -> None:
        """A fault as `disk_shim.c` words it, until the next crash or `mend`."""
        # The shim counts calls for as long as it reads the same line: each break is a line of its own.
        self._fault.write_text(f"{line} {next(_breaks)}")

    def mend(self) -> None:
        """No fault any more."""
        self._fault.write_text("")

    def crash(self, at: int, *, is_power_cut: bool) -> str:
        """End this life at the position `at`; the next one finds what is left. Returns what was lost, for people."""
        self.mend()  # what follows is written by the world, not by the box
        name = f"life-{self._life}/ledger"
        changes = [*self._since, *_until(self._log.read_bytes()[:at], str(self._root / name))]
        left = self._root / "left"
        left.mkdir()
        if is_power_cut:
            cut_power(changes, left, self._random, self._base)
            self._since = []
        else:
            _apply(changes, left, self._base)
            self._since = changes
        found = {file.name: file.read_bytes() for file in sorted(left.iterdir())}
        if is_power_cut:
            self._base = found
        shutil.rmtree(left)
        shutil.rmtree(self._root / f"life-{self._life}")
        self._life += 1
        self._begin(found)
        return f"{len(changes)} changes, {sum(change.kind in 'SD' for change in changes)} syncs"

    def _begin(self, content: Mapping[str, bytes]) -> None:
        self.folder.mkdir(parents=True)
        for name, octets in content.items():
            (self.folder / name).write_bytes(octets)
        # The shim appends: from here on the recording is this life's.
        os.truncate(self._log, 0)


def _until(log: bytes, folder: str) -> Iterator[Change]:
    """The changes to `folder` up to the end of `log`, which may cut the last one in two."""
    with suppress(struct.error, UnicodeDecodeError):
        for change in read_changes(log, folder):
            if "/" not in change.name:  # else the write of a life that ended before
                yield change


def _apply(changes: list[Change], target: Path, base: Mapping[str, bytes]) -> None:
    """What a killed process leaves: every change, in order."""
    files = {name: bytearray(content) for name, content in base.items()}
    for change in changes:
        match change.kind:
            case "C":
                files[change.name] = bytearray()
            case "R" if change.name in files:
                files[change.new_name] = files.pop(change.name)
            case "U":
                files.pop(change.name, None)
            case "T" if change.name in files:
                file = files[change.name]
                del file[change.offset :]
                file.extend(bytes(change.offset - len(file)))
            case "W" if change.name in files:
                file = files[change.name]
                file.extend(bytes(max(0, change.offset + len(change.content) - len(file))))
                file[change.offset : change.offset + len(change.content)] = change.content
            case _:
                pass
    for name, content in files.items():
        (target / name).write_bytes(content)
