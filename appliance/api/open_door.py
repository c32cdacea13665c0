"""A door that is open: from a listening socket to one `Connection` for each caller."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence

from aiohttp import web

from appliance.api.connection import Connection
from appliance.api.crowd import Crowd
from appliance.api.failures import Failures
from appliance.model.limits import SILENCE_MS_MAX, TLS_HANDSHAKE_MS_MAX
from appliance.ports.clock import Clock
from appliance.runtime.accept import accept_each
from appliance.runtime.log import Log


class OpenDoor:
    """A listening application; `run` is its service, from now to the stop. `port` is 0 for a Unix socket."""

    def __init__(
        self,
        runner: web.AppRunner,
        listeners: Sequence[socket.socket],
        *,
        crowd: Crowd,
        tls: ssl.SSLContext | None,
        failures: Failures,
        clock: Clock,
        log: Log,
    ) -> None:
        self._runner = runner
        self._listeners = listeners
        self._crowd = crowd
        self._tls = tls
        self._failures = failures
        self._clock = clock
        self._log = log
        address = listeners[0].getsockname()
        self.port = int(address[1]) if isinstance(address, tuple) else 0

    async def run(self) -> None:
        """Serve until cancelled, then let requests in flight end."""
        try:
            await accept_each(self._listeners, self._welcome, clock=self._clock, log=self._log)
        finally:
            for listener in self._listeners:
                listener.close()
            await self._runner.cleanup()

    async def _welcome(self, accepted: socket.socket, address: str) -> None:
        server = self._runner.server
        if server is None:  # the stop was faster
            accepted.close()
            return
        connection = Connection(
            server,
            accepted=accepted,
            address=address,
            silence_s_max=SILENCE_MS_MAX / 1_000,
            failures=self._failures,
            left=self._crowd.leave,
        )
        if not self._crowd.admit(connection):
            accepted.close()
            return
        is_open = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else TLS_HANDSHAKE_MS_MAX / 1_000,
            )
            is_open = True
        except OSError:
            pass  # the handshake failed or took too long: no error of ours, and nobody is left to hear one
        finally:
            if not is_open:
                self._crowd.leave(connection)
