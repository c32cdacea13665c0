"""Accepts connections, one task for each until it is welcomed.

Accepting by ourselves lets a door know the caller's address and refuse *before* anything of TLS exists: a library's
server tells neither until the handshake is over, and whoever never begins one would not be counted.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from appliance.ports.clock import Clock
from appliance.runtime.log import Log

_PAUSE_MS: Final = 200

Welcome = Callable[[socket.socket, str], Awaitable[None]]
"""Takes the accepted socket over, with the caller's address ("" on a Unix socket); ends soon and by itself."""


async def accept_each(listeners: Sequence[socket.socket], welcome: Welcome, *, clock: Clock, log: Log) -> None:
    """Hand every connection of `listeners` to `welcome`, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for listener in listeners:
            group.create_task(_accept(listener, welcome, group, clock, log))


async def _accept(listener: socket.socket, welcome: Welcome, group: asyncio.TaskGroup, clock: Clock, log: Log) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            accepted, address = await loop.sock_accept(listener)
        except OSError as trouble:
            # No descriptors or memory: the connection stays in the backlog, and trying at once would only burn time.
            log.warning("door.not_accepting", error=trouble)
            await clock.sleep(_PAUSE_MS)
            continue
        task = group.create_task(_run(welcome, accepted, address[0] if address else ""))
        task.add_done_callback(functools.partial(_close_unbegun, accepted))


async def _run(welcome: Welcome, accepted: socket.socket, address: str) -> None:
    await welcome(accepted, address)


def _close_unbegun(accepted: socket.socket, task: asyncio.Task[None]) -> None:
    # A task that is cancelled before its first step never enters its body. One that did has given its socket to a
    # transport, which closes it whatever is done here.
    if task.cancelled():
        accepted.close()
