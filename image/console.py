"""A machine's serial console: every line with its time, and a way to type. Owns the log file of one start."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;:?=]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>c78]|[\r\x00]")
_CONNECT_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the console said, without escape sequences, and how many seconds after power-on."""

    at_s: float
    text: str


class ConsoleSilent(Exception):
    """What was waited for did not come; the message holds the last lines."""


class Console:
    """The console behind a Unix socket that QEMU listens on. A thread of its own reads; it ends with the machine."""

    def __init__(self, path: Path, log: Path) -> None:
        self.began = time.monotonic()
        self.lines: list[Line] = []
        self._show: Callable[[bytes], object] = lambda _chunk: None
        self._changed = threading.Condition()
        self._partial = ""
        self._has_ended = False
        self._socket = _connect(path)
        self._log = log.open("w", encoding="utf-8")
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Stop reading. A machine that ended has stopped it already."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def show(self, write: Callable[[bytes], object]) -> None:
        """From now on hand over what the console says as it comes, escape sequences and all."""
        self._show = write

    def type(self, text: str | bytes) -> None:
        """Send what a person would type."""
        self._socket.sendall(text.encode() if isinstance(text, str) else text)

    def wait_for(self, pattern: str, seconds_max: float, *, after: int = 0) -> re.Match[str]:
        """The first line from number `after` on, whole or begun, that holds `pattern`. Raises ConsoleSilent."""
        ends_at = time.monotonic() + seconds_max
        with self._changed:
            while True:
                for text in [*(line.text for line in self.lines[after:]), self._partial]:
                    if found := re.search(pattern, text):
                        return found
                left = ends_at - time.monotonic()
                if left <= 0 or self._has_ended:
                    why = "the machine ended" if self._has_ended else f"waited {seconds_max:.0f} s"
                    tail = "\n".join(f"  {line.at_s:7.2f} {line.text}" for line in self.lines[-15:])
                    raise ConsoleSilent(f"no line with {pattern!r} on the console ({why}); its last ones:\n{tail}")
                self._changed.wait(left)

    def _read(self) -> None:
        with self._log as log:
            while chunk := self._received():
                self._show(chunk)
                with self._changed:
                    at_s = time.monotonic() - self.began
                    *whole, self._partial = (self._partial + chunk.decode(errors="replace")).split("\n")
                    for text in whole:
                        line = Line(at_s=at_s, text=_ESCAPES.sub("", text))
                        self.lines.append(line)
                        log.write(f"{line.at_s:8.2f} {line.text}\n")
                    log.flush()
                    self._changed.notify_all()
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _received(self) -> bytes:
        try:
            return self._socket.recv(65_536)
        except OSError:
            return b""


def _connect(path: Path) -> socket.socket:
    ends_at = time.monotonic() + _CONNECT_S_MAX
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.02)
        else:
            return connection
