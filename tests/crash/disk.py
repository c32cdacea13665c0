"""The disk of `disk_shim.c`, seen from Python: builds it, reads its recording, replays a power cut. Holds no test.

* Power-cut model: what was synced is there; of what was written to a file since its last sync, any subset of 512-byte
  sectors, and after a failed sync the others never, however often it is synced again; of the names changed since the
  folder's last sync, any prefix. Stricter than ext4, which orders more.
* The file `acks` in the folder is no storage: its writes mark when the till was told something.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SECTOR_BYTES = 512
CHILD_S_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One record: see `disk_shim.c`."""

    kind: str
    name: str
    new_name: str
    offset: int
    content: bytes


@dataclass(slots=True)
class File:
    """A file on the simulated disk: what is surely there, and what may be."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)


def build_shim(folder: Path) -> Path:
    """Compile the shim; skips the test when there is no compiler."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is missing: it builds the disk under test")
    shim = folder / "disk_shim.so"
    source = Path(__file__).with_name("disk_shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl", "-lpthread"], check=True)
    return shim


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A folder on a disk that is recorded and can fail."""

    folder: Path
    log: Path
    fault: Path
    shim: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `tests.crash.till` on this disk."""
        environment: Mapping[str, str] = {
            **os.environ,
            "LD_PRELOAD": str(self.shim),
            "TILLSTONE_DISK_FOLDER": str(self.folder),
            "TILLSTONE_DISK_LOG": str(self.log),
            "TILLSTONE_DISK_FAULT": str(self.fault),
        }
        return subprocess.run(
            [sys.executable, "-m", "tests.crash.till", str(self.folder), str(self.fault), *arguments],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=CHILD_S_MAX,
            check=False,
        )

    def changes(self) -> list[Change]:
        """Everything that happened to the folder, in order."""
        return list(read_changes(self.log.read_bytes(), str(self.folder)))


def read_changes(log: bytes, folder: str) -> Iterator[Change]:
    """The records of `disk_shim.c`; names are told below `folder`."""
    at = 0

    def text() -> str:
        nonlocal at
        (size,) = struct.unpack_from("<I", log, at)
        found = log[at + 4 : at + 4 + size].decode()
        at += 4 + size
        return found.removeprefix(folder).removeprefix("/")

    while at < len(log):
        kind = chr(log[at])
        at += 1
        name, new_name = text(), text()
        offset, size = struct.unpack_from("<QI", log, at)
        at += 12
        yield Change(kind=kind, name=name, new_name=new_name, offset=offset, content=log[at : at + size])
        at += size


def acknowledged(changes: Sequence[Change]) -> list[str]:
    """What the till had been told by then."""
    return b"".join([change.content for change in changes if change.name == "acks"]).decode().split()


def cut_power(
    changes: Sequence[Change], target: Path, randomness: random.Random, base: Mapping[str, bytes] | None = None
) -> None:
    """Write into `target` what a disk may hold when power fails after `changes` to a folder that safely held `base`."""
    names = {name: File(durable=bytearray(content)) for name, content in (base or {}).items()}
    durable_names = dict(names)
    name_changes: list[dict[str, File]] = []  # the folder after each change of a name that is not synced yet
    for change in changes:
        if change.name == "acks":
            continue
        file = names.get(change.name)
        if change.kind in "CRU":
            _change_name(names, change)
            name_changes.append(dict(names))
        elif change.kind == "D":
            durable_names, name_changes = dict(names), []
        elif file is not None and change.kind == "S":
            _write(file, file.pending, 1.0, randomness)
            file.pending.clear()
        elif file is not None and change.kind == "F":
            # What did not reach the disk until now never will: its pages look clean from here on.
            _write(file, file.pending, randomness.choice((0.0, 0.5)), randomness)
            file.pending.clear()
        elif file is not None:
            file.pending.append(change)
    folder = randomness.choice([durable_names, *name_changes])
    for name, file in folder.items():
        lost = randomness.choice((0.0, 0.05, 0.5, 1.0))
        _write(file, file.pending, 1.0 - lost, randomness)
        (target / name).write_bytes(file.durable)


def _change_name(names: dict[str, File], change: Change) -> None:
    if change.kind == "C":
        names[change.name] = File()
    elif change.name in names:
        file = names.pop(change.name)
        if change.kind == "R":
            names[change.new_name] = file


def _write(file: File, pending: Sequence[Change], share: float, randomness: random.Random) -> None:
    """Let each pending sector reach the disk with the probability `share`, in any order."""
    for change in pending:
        if change.kind == "T":
            if randomness.random() < share:
                del file.durable[change.offset :]
                file.durable.extend(bytes(change.offset - len(file.durable)))
            continue
        start = change.offset
        while start < change.offset + len(change.content):
            end = min((start // SECTOR_BYTES + 1) * SECTOR_BYTES, change.offset + len(change.content))
            if randomness.random() < share:
                file.durable.extend(bytes(max(0, end - len(file.durable))))
                file.durable[start:end] = change.content[start - change.offset : end - change.offset]
            start = end
