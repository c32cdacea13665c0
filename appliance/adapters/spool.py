"""The spool in the box's state: files between the process and the installer. Source: docs/formats/update.md.

Owns the files and their order. The request comes last and goes first: without it the installer does nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from appliance.model.errors import Unavailable
from appliance.wire.installer import REPORT_BYTES_MAX, REQUEST_FILE, UPDATE_FILE, Report

_INCOMING: Final = "incoming"
_NOTE: Final = "trouble"
_NOTE_BYTES_MAX: Final = 500


class SpoolFolder:
    """Satisfies `ports/platform.py`, Spool."""

    def __init__(self, folder: Path, report: Path) -> None:
        self._folder = folder
        self._report = report
        self._incoming = -1

    def room_bytes(self) -> int:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def begin(self) -> Callable[[bytes], None]:
        self.clear()
        if self._incoming >= 0:
            os.close(self._incoming)
        self._incoming = os.open(self._folder / _INCOMING, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        return self._take

    def keep(self) -> None:
        with _room():
            os.fsync(self._incoming)
        os.close(self._incoming)
        self._incoming = -1
        (self._folder / _INCOMING).rename(self._folder / UPDATE_FILE)
        self._sync()

    def ask(self, asked: bytes) -> bool:
        if not (self._folder / UPDATE_FILE).exists():
            return False
        request = self._folder / REQUEST_FILE
        if request.exists() and request.read_text() == asked.hex():
            return True
        new = self._folder / f"{REQUEST_FILE}.new"
        with _room(), os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(asked.hex())
            file.flush()
            os.fsync(file.fileno())
        new.rename(request)
        self._sync()
        return True

    def nudge(self) -> None:
        # The unit that waits for the request hears of its new times.
        os.utime(self._folder / REQUEST_FILE)

    def report(self) -> Report | None:
        try:
            with self._report.open("rb") as file:
                return msgspec.json.decode(file.read(REPORT_BYTES_MAX), type=Report)
        except (OSError, msgspec.MsgspecError):
            return None  # not written yet, or by an installer of another release: nothing is known

    def note(self, trouble: str) -> None:
        (self._folder / _NOTE).write_text(trouble)

    def noted(self) -> str:
        try:
            with (self._folder / _NOTE).open("rb") as file:
                return file.read(_NOTE_BYTES_MAX).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def clear(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for name in (REQUEST_FILE, UPDATE_FILE, _INCOMING, _NOTE):
            (self._folder / name).unlink(missing_ok=True)
            self._sync()

    def _take(self, content: bytes) -> None:
        left = memoryview(content)
        with _room():
            while left:
                left = left[os.write(self._incoming, left) :]

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _room() -> Iterator[None]:
    """A full disk is a refusal by name."""
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable("update_no_room", "the state has no room for the update") from cause
        raise
