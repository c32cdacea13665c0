"""What a ceremony has done so far: one file, written anew after each step.

Owns `ceremony.json` and the lock beside it. Must never hold a secret: the transcript is made of it.

* A step is done when it stands here, and a step that was cut short does not: it is done again.
* One installer at a time: the lock goes with its process, whatever ends that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias, Union

import msgspec

from provisioning.commands.outcome import CannotDo
from provisioning.terminal.durable import write_durably

NAME: Final = "ceremony.json"
_LOCK: Final = ".ceremony.lock"
Fact: TypeAlias = Union[str, int, bool, "list[Fact]", "dict[str, Fact]"]
Facts: TypeAlias = dict[str, Fact]


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step: when, in Unix milliseconds, and what was found or made; public facts only."""

    name: str
    began_ms: int
    ended_ms: int
    facts: dict[str, object]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The steps in the order in which they were done."""

    version: int = 1
    steps: tuple[Done, ...] = ()

    def facts(self, name: str) -> dict[str, object] | None:
        """Of the step with this name; None while it is not done."""
        return next((step.facts for step in self.steps if step.name == name), None)


def read_record(folder: Path) -> Record:
    """The record in `folder`, empty when there is none. Raises CannotDo when it cannot be read."""
    path = folder / NAME
    if not path.exists():
        return Record()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError) as cause:
        raise CannotDo(f"{path} cannot be read: {cause}", "retire the box and begin anew") from cause


def add_step(folder: Path, done: Done) -> Record:
    """Write the record with one more step; durable on return."""
    before = read_record(folder)
    return _write(folder, msgspec.structs.replace(before, steps=(*before.steps, done)))


def forget_steps(folder: Path, names: tuple[str, ...]) -> Record:
    """Write the record without these steps: they will be done again; durable on return."""
    before = read_record(folder)
    return _write(
        folder, msgspec.structs.replace(before, steps=tuple(step for step in before.steps if step.name not in names))
    )


def _write(folder: Path, record: Record) -> Record:
    write_durably(folder / NAME, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    return record


@contextmanager
def only_installer(folder: Path) -> Iterator[None]:
    """Hold the ceremony of `folder`. Raises CannotDo when somebody else does."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        os.close(descriptor)
        raise CannotDo(
            f"another installer works on {folder}; nothing was touched", "wait until that one has ended"
        ) from cause
    try:
        yield
    finally:
        os.close(descriptor)
