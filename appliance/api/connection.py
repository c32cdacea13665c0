"""One connection of a door, as long as it is open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from aiohttp import web
from typing_extensions import override


class Connection(web.RequestHandler):
    """The HTTP protocol of one accepted socket, and what its door must know to choose who makes room.

    Attributes:
        address: of the caller; "" on a Unix socket.
    """

    __slots__ = ("_accepted", "_left", "address")

    def __init__(
        self,
        server: web.Server,
        *,
        accepted: socket.socket,
        address: str,
        silence_s_max: float,
        left: Callable[[Connection], None],
    ) -> None:
        # No access log: the middleware counts requests, and paths of strangers do not belong in a log.
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # how the library's own sites switch it off
            keepalive_timeout=silence_s_max,
        )
        self._accepted = accepted
        self._left = left
        self.address = address

    @property
    def is_idle(self) -> bool:
        """Nobody waits for an answer: the handshake runs, or a whole request head is still to come."""
        return not self._request_in_progress

    @property
    def has_spoken(self) -> bool:
        """At least one request came."""
        return self._request_count > 0

    @property
    def silent_since(self) -> float:
        """Time of the last answer on a clock of the library's own; for comparing only."""
        return self._next_keepalive_close_time

    def hang_up(self) -> None:
        """End it at whatever stage it is: the transport, or the handshake, reads an end of file."""
        with contextlib.suppress(OSError):  # the caller was faster
            self._accepted.shutdown(socket.SHUT_RDWR)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._left(self)
