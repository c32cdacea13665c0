"""A receipt printer that is not there: takes ESC/POS on a pseudo-terminal or TCP, and shows what came to paper.

Owns the reading of the commands that `drivers/serial/escpos.py` writes, from Epson's reference and not from that file.
Switches make it what a printer in a shop is: off, out of paper, silent, slow, or talking nonsense.
"""

from __future__ import annotations

import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_STEP_S: Final = 0.05
_PAGES: Final = {0: "cp437", 2: "cp850", 16: "cp1252", 17: "cp866", 18: "cp852", 19: "cp858"}
# Bytes of each command, its first two included; GS ( k says its own length.
_SIZES: Final = {b"\x1b@": 2, b"\x1bt": 3, b"\x1bE": 3, b"\x1ba": 3, b"\x1bp": 5, b"\x1da": 3, b"\x1d!": 3, b"\x1dr": 3}
_SIZES_LONGER: Final = {b"\x1dV": 4}
_CODE: Final = b"\x1d(k"
_URGENT: Final = {b"\x10\x04": 3, b"\x10\x14": 5}  # DLE EOT n, DLE DC4 fn m t


@dataclass(slots=True)
class PrinterTwin:
    """The printer.

    Attributes:
        rows: what is on the paper; a cut is a row `--- cut ---`, a QR code `[QR content]`.
        is_silent: takes everything, answers nothing. says: these bytes instead of answers.
        paper_rows_left: after so many rows the paper is out.
        waits, on_row, on_cut, on_kick: called before each answer, for each row, behind each page, for each pulse.
    """

    is_silent: bool = False
    says: bytes = b""
    is_cover_open: bool = False
    is_offline: bool = False
    is_paper_low: bool = False
    paper_rows_left: int = 1_000_000
    waits: Callable[[], None] = lambda: None
    on_row: Callable[[str], None] = lambda _row: None
    on_cut: Callable[[], None] = lambda: None
    on_kick: Callable[[], None] = lambda: None
    rows: list[str] = field(default_factory=list)
    bold_rows: list[str] = field(default_factory=list)
    drawer_kicks: list[int] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)
    _row: bytes = b""
    _page: str = "cp437"
    _is_bold: bool = False
    _code: bytes = b""
    _left: bytes = b""

    @property
    def is_stopped(self) -> bool:
        """It keeps what comes in its buffer."""
        return self.is_cover_open or self.is_offline or self.paper_rows_left <= 0

    def take(self, data: bytes) -> bytes:
        """What it answers to `data`."""
        answers = b""
        self._left += data
        while self._left:
            at = self._next_urgent() if self.is_stopped else 0
            urgent = self._urgent(at)
            if at < 0 or urgent == b"":
                break
            if urgent is not None:
                answers += self._obey_now(urgent)
                self._left = self._left[:at] + self._left[at + len(urgent) :]
                continue
            command = self._next()
            if not command:
                break
            self._left = self._left[len(command) :]
            answers += self._obey(command)
        if answers:
            self.waits()
        if self.is_silent or not answers:
            return b""
        return self.says or answers

    def _next_urgent(self) -> int:
        """Where the next real-time command begins; -1 for nowhere."""
        return min((at for start in _URGENT if (at := self._left.find(start)) >= 0), default=-1)

    def _urgent(self, at: int) -> bytes | None:
        """The real-time command at `at`: empty while it is incomplete, None where there is none."""
        size = _URGENT.get(self._left[at : at + 2])
        if size is None:
            return None
        command = self._left[at : at + size]
        return command if len(command) == size else b""

    def _obey_now(self, command: bytes) -> bytes:
        if command[1] == 0x04:
            return self._status(command[2])
        self._kick(2 if command[3] == 0 else 5)
        return b""

    def _next(self) -> bytes:
        """The command in front; empty while it is incomplete."""
        if self._left[0] not in (0x1B, 0x1D, 0x10):
            return self._left[:1]
        if self._left[:3] == _CODE:
            size = 5 + int.from_bytes(self._left[3:5], "little") if len(self._left) >= 5 else 5
        else:
            size = {**_SIZES, **_SIZES_LONGER}.get(self._left[:2], 3 if len(self._left) < 3 else 1)
        return self._left[:size] if len(self._left) >= size else b""

    def _obey(self, command: bytes) -> bytes:
        match command[:2]:
            case b"\x1b@":
                self._row, self._is_bold, self._page = b"", False, "cp437"
            case b"\x1bt":
                self._page = _PAGES[command[2]]
            case b"\x1bE":
                self._is_bold = bool(command[2] & 1)
            case b"\x1bp":
                self._kick(2 if command[2] in (0, 48) else 5)
            case b"\x1dr":
                return bytes([0x03 if self.is_paper_low else 0])
            case b"\x1dV":
                self._put("--- cut ---")
                self.on_cut()
            case b"\x1d(":
                self._draw(command[5:])
            case b"\x1ba" | b"\x1da" | b"\x1d!":
                pass
            case b"\n":
                self._put(self._row.decode(self._page))
                self._row = b""
            case _ if len(command) == 1 and command[0] >= 0x20:
                self._row += command
            case _:
                self.unknown.append(command)
        return b""

    def _kick(self, pin: int) -> None:
        self.drawer_kicks.append(pin)
        self.on_kick()

    def _draw(self, function: bytes) -> None:
        if function[:2] == b"\x31\x50":
            self._code = function[3:]
        elif function[:2] == b"\x31\x51":
            self._put(f"[QR {self._code.decode()}]")

    def _put(self, row: str) -> None:
        self.rows.append(row)
        self.on_row(row)
        self.paper_rows_left -= 1
        if self._is_bold:
            self.bold_rows.append(row)

    def _status(self, what: int) -> bytes:
        is_out = self.paper_rows_left <= 0
        match what:
            case 1:
                return bytes([0x12 | (0x08 if self.is_stopped else 0)])
            case 2:
                return bytes([0x12 | (0x04 if self.is_cover_open else 0) | (0x20 if is_out else 0)])
            case 4:
                return bytes([0x12 | (0x0C if self.is_paper_low or is_out else 0) | (0x60 if is_out else 0)])
            case _:
                return b""


@contextmanager
def on_terminal(take: Callable[[bytes], bytes], *, opened: Callable[[], None] = lambda: None) -> Iterator[str]:
    """`take` behind a pseudo-terminal; its address. `opened` is called at once: nobody sees who opens a device."""
    opened()
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with _thread(lambda stop: _serve_descriptor(ours, take, stop)):
        yield os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


@contextmanager
def on_tcp(
    take: Callable[[bytes], bytes], port: int = 0, *, opened: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """`take` behind a TCP port of this machine (0: any free one); its address.

    Args:
        opened: called when somebody connects.
    """
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(_STEP_S)
        address = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        with _thread(lambda stop: _serve_callers(listener, take, opened, stop)):
            yield address


@contextmanager
def _thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name="twin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _serve_callers(
    listener: socket.socket, take: Callable[[bytes], bytes], opened: Callable[[], None], stop: threading.Event
) -> None:
    while not stop.is_set():
        with suppress(TimeoutError):
            caller, _ = listener.accept()
            opened()
            with caller:
                _serve_descriptor(caller.fileno(), take, stop)


def _serve_descriptor(descriptor: int, take: Callable[[bytes], bytes], stop: threading.Event) -> None:
    while not stop.is_set():
        if not select.select([descriptor], [], [], _STEP_S)[0]:
            continue
        try:
            data = os.read(descriptor, 4096)
            if not data:
                return
            os.write(descriptor, take(data))
        except OSError:
            return  # the caller hung up
