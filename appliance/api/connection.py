"""One connection of a door, as long as it is open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web
from typing_extensions import override

from appliance.api.failures import Failures
from appliance.identity.signed import Encoding


class Connection(web.RequestHandler):
    """The HTTP protocol of one accepted socket, and what its door must know to choose who makes room.

    What fails outside of every handler, such as a head that is no HTTP, is answered in the same form as anything else.

    Attributes:
        address: of the caller; "" on a Unix socket.
    """

    __slots__ = ("_accepted", "_failures", "_left", "address")

    def __init__(
        self,
        server: web.Server,
        *,
        accepted: socket.socket,
        address: str,
        silence_s_max: float,
        failures: Failures,
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
        self._failures = failures
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
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and not request.content.is_eof():
            # Nothing can follow a body that has not ended: its chunks are malformed. The library would let the handler
            # wait for the rest.
            request.content.set_exception(web.RequestPayloadError("malformed chunk"))

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun and cannot become a refusal")
        response = self._failures.answer(exc, verb="unknown", encoding=Encoding.JOSE)
        response.force_close()  # where the next request would begin is not known
        return response

    @override
    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        if isinstance(resp, web.HTTPException):  # raised before the middleware, such as for an unknown expectation
            resp = self.handle_error(request, exc=resp)
        return super().finish_response(request, resp, start_time)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._left(self)
