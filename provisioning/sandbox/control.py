"""The sandbox's own control door: how another command asks the owner of the children to end or start one.

Owns the socket and the two shapes on it. Must never be reachable by another user: it lies in the sandbox's folder,
which is 0700.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final, Literal

import msgspec

from provisioning.commands.outcome import CannotDo
from provisioning.local_door import connect_unix
from provisioning.sandbox.layout import SandboxFolder
from provisioning.sandbox.shop import ChildName

SOCKET_NAME: Final = "control.sock"
LINE_BYTES_MAX: Final = 4096
ANSWER_S_MAX: Final = 60.0
LISTEN_S_MAX: Final = 5.0
_POLL_S: Final = 0.05


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order: `kill` is a power cut, `stop` an orderly end, `start` waits until it is ready."""

    do: Literal["kill", "stop", "start"]
    what: ChildName
    mounts_of: int | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order was carried out, or why it was not."""

    fault: str = ""


class Control:
    """The asking side."""

    def __init__(self, folder: SandboxFolder) -> None:
        self._folder = folder

    def kill(self, what: ChildName) -> None:
        """Cut the power of one child; it stays down until `start`."""
        self._ask(Order(do="kill", what=what))

    def stop(self, what: ChildName) -> None:
        self._ask(Order(do="stop", what=what))

    def start(self, what: ChildName, *, mounts_of: int | None = None) -> None:
        """Start one child and wait until it is ready."""
        self._ask(Order(do="start", what=what, mounts_of=mounts_of))

    def _connected(self) -> socket.socket:
        """It sells a moment before its supervisor listens; the socket of an earlier start may still lie there."""
        ends_at = time.monotonic() + LISTEN_S_MAX
        while True:
            try:
                return connect_unix(self._folder.path, SOCKET_NAME, ANSWER_S_MAX)
            except (ConnectionRefusedError, FileNotFoundError):
                if time.monotonic() > ends_at:
                    raise
                time.sleep(_POLL_S)

    def _ask(self, order: Order) -> None:
        try:
            with self._connected() as connection:
                connection.sendall(msgspec.json.encode(order) + b"\n")
                done = msgspec.json.decode(read_line(connection), type=Done)
        except (OSError, msgspec.MsgspecError) as cause:
            raise CannotDo(
                f"the sandbox in {self._folder.path} does not answer: {cause}", "tillstone sandbox"
            ) from cause
        if done.fault:
            raise CannotDo(done.fault, f"read {self._folder.appliance_log}")


def listen(folder: SandboxFolder) -> socket.socket:
    """The answering side's socket, which takes over from a dead one."""
    (folder.path / SOCKET_NAME).unlink(missing_ok=True)
    directory = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
    finally:
        os.close(directory)
    (folder.path / SOCKET_NAME).chmod(0o600)
    listener.listen()
    return listener


def read_line(connection: socket.socket) -> bytes:
    """One line, at most `LINE_BYTES_MAX` bytes."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        received = connection.recv(LINE_BYTES_MAX)
        if not received:
            break
        line += received
    return line
