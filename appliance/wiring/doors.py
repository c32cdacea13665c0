"""Opens and closes the doors: sockets, TLS, and the file that says where they are."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from appliance.adapters.dns_sd import Announcement, Announcer
from appliance.api.crowd import Crowd
from appliance.api.failures import Failures
from appliance.api.open_door import OpenDoor
from appliance.config.schema import Settings
from appliance.model.limits import CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor, Tier

LOCAL_SOCKET: Final = "local.sock"
DOORS_FILE: Final = "doors.json"
_SHUTDOWN_S: Final = 5.0
_BACKLOG: Final = 1_024


class Doors:
    """Opens doors that share all but their routes."""

    def __init__(self, *, failures: Failures, clock: Clock, log: Log, metrics: Metrics) -> None:
        self._failures = failures
        self._clock = clock
        self._log = log
        self._metrics = metrics

    async def open_tcp(
        self, name: str, application: web.Application, *, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> OpenDoor:
        """Listen on a TCP port; 0 takes a free one."""
        return await self._open(name, application, await _listen_tcp(host, port), tls)

    async def open_local(self, application: web.Application, folder: Path) -> OpenDoor:
        """Listen on the Unix socket that only the box's own user may open."""
        path = folder / LOCAL_SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        return await self._open("local", application, [listener], None)

    async def _open(
        self, name: str, application: web.Application, listeners: Sequence[socket.socket], tls: ssl.SSLContext | None
    ) -> OpenDoor:
        application.on_response_prepare.append(_withhold_name)
        runner = web.AppRunner(application, shutdown_timeout=_SHUTDOWN_S, handler_cancellation=False)
        await runner.setup()
        for listener in listeners:
            listener.setblocking(False)
        total_max = _connections_max()
        crowd = Crowd(
            total_max=total_max,
            address_max=min(CONNECTIONS_PER_ADDRESS_MAX, total_max // 4),
            on_displaced=self._metrics.connections_displaced.inc,
        )
        self._metrics.door_opened(name, lambda: len(crowd))
        return OpenDoor(
            runner, listeners, crowd=crowd, tls=tls, failures=self._failures, clock=self._clock, log=self._log
        )


def tell_doors(folder: Path, doors: Mapping[str, int | None]) -> None:
    """Write where the doors are, for whoever started the process with port 0."""
    new = folder / f"{DOORS_FILE}.new"
    new.write_bytes(msgspec.json.encode(doors))
    new.rename(folder / DOORS_FILE)


async def _withhold_name(_request: web.Request, response: web.StreamResponse) -> None:
    """Which library in which version stands behind a door is nobody's business."""
    response.headers.pop("Server", None)


async def _listen_tcp(host: str, port: int) -> list[socket.socket]:
    """One listener for each address that `host` stands for."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    with contextlib.ExitStack() as opened:
        listeners = [
            opened.enter_context(socket.create_server(address, family=family, backlog=_BACKLOG))
            for family, address in addresses
        ]
        opened.pop_all()
    return listeners


def _connections_max() -> int:
    """Well below the limit of open files: the log, the token and the TPM need descriptors too, and doors are three."""
    return min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


async def announce(settings: Settings, audience: str, port: int, supervisor: Supervisor, log: Log) -> None:
    """Say on the network where terminals find the box, for as long as it runs."""
    shop = settings.shop
    announcement = Announcement(
        serial=shop.serial, shop=shop.name, audience=audience, host=settings.pos.host, port=port
    )
    try:
        announcer = await Announcer.open(announcement)
    except OSError as cause:
        # No multicast here (a container, a laptop without a network): tills use the address instead.
        log.warning("announcement.refused", error=cause)
        return
    supervisor.start("announcement", announcer.run, restart=Restart.ON_CRASH, tier=Tier.DOOR)
