"""A serial line, or a TCP connection in its place: bytes out and in, each with a deadline.

Owns the port of pyserial. Must never retry or know what the bytes mean. One thread, one line.

* A line that `forgets` throws away on closing what the other side did not take yet: TCP would go on delivering it for
  minutes after the network healed, and a command that moves money would be obeyed when nobody waits for it any more.
* An address is `/dev/...` or `socket://HOST:PORT`; pyserial's other kinds of address are not for settings.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from types import TracebackType
from typing import Final

import serial

from drivers.serial.errors import LineAway, LineSilent

CONNECT_PREFIX: Final = "socket://"


class Line:
    """An open line; `with` closes it."""

    def __init__(self, address: str, baud: int = 38_400, *, forgets: bool = False) -> None:
        if not address.startswith(("/dev/", CONNECT_PREFIX)):
            raise LineAway(f"expected /dev/... or {CONNECT_PREFIX}HOST:PORT, saw {address}")
        try:
            self._port = serial.serial_for_url(address, baudrate=baud)
        except (serial.SerialException, OSError, ValueError) as cause:
            raise LineAway(f"{address} cannot be opened: {cause}") from cause
        self._forgets = forgets

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let it go."""
        # pyserial leaves its socket open when the other side went first, so it is closed by hand before.
        peer = vars(self._port).get("_socket")
        if isinstance(peer, socket.socket):
            if self._forgets:
                # No time to linger: the connection is reset, and nothing that is still under way is sent again.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        elif self._forgets:
            with suppress(serial.SerialException, OSError):
                self._port.reset_output_buffer()
        self._port.close()

    def write(self, data: bytes, deadline_s: float) -> None:
        """Hand over all of `data`. Raises LineSilent, LineAway: part of it may have gone."""
        try:
            self._port.write_timeout = deadline_s
            self._port.write(data)
        except serial.SerialTimeoutException as cause:
            raise LineSilent(f"the other side took no more bytes within {deadline_s} s") from cause
        except (serial.SerialException, OSError) as cause:
            raise LineAway(f"the line broke: {cause}") from cause

    def read(self, count: int, deadline_s: float) -> bytes:
        """Exactly `count` bytes. Raises LineSilent, LineAway."""
        got = b""
        ends_at = time.monotonic() + deadline_s
        try:
            while len(got) < count:
                self._port.timeout = max(0.0, ends_at - time.monotonic())
                more = self._port.read(count - len(got))
                if not more and time.monotonic() >= ends_at:
                    raise LineSilent(f"expected {count} bytes within {deadline_s} s, saw {len(got)}")
                got += more
        except (serial.SerialException, OSError) as cause:
            raise LineAway(f"the line broke: {cause}") from cause
        return got

    def forget_input(self) -> None:
        """Drop what came before the next question."""
        try:
            self._port.reset_input_buffer()
        except (serial.SerialException, OSError) as cause:
            raise LineAway(f"the line broke: {cause}") from cause
