"""One keep-alive connection that sends bytes made before and reads just enough of the answer.

Owns the HTTP/1.1 framing of an answer with a Content-Length; a protocol of callbacks, because streams cost twice as
much and the generator shares the machine with what it measures.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """Make it with `open_connection`; one exchange at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._size = 0
        self._waiting: asyncio.Future[bytes] | None = None

    async def exchange(self, request: bytes) -> bytes:
        """Send `request` and return the whole answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the box closed the connection between two requests")
        self._waiting = self._loop.create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport writes like any other and is no subclass.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._size:
            end = self._buffer.find(_END_OF_HEAD)
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.index(_LENGTH) + len(_LENGTH)
            self._size = end + len(_END_OF_HEAD) + int(head[at:].split(b"\r\n", 1)[0])
        if len(self._buffer) >= self._size and self._waiting is not None:
            answer, self._buffer, self._size = self._buffer, b"", 0
            self._waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionResetError("the box closed the connection"))


async def open_connection(
    host: str, port: int, tls: ssl.SSLContext | None = None, *, local: str | None = None
) -> Connection:
    """Connect, from the address `local` if it matters, and with `tls` shake hands."""
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection,
        host,
        port,
        ssl=tls,
        server_hostname="localhost" if tls else None,
        local_addr=None if local is None else (local, 0),
    )
    return connection
