"""A provider's twin as a process of its own: how it starts, one line of JSON with its port, a tick for what it does.

Must never listen on anything but 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from provisioning.sandbox.stripe_twin_faults import FaultScript
from provisioning.sandbox.stripe_twin_store import TwinStore

TICK_S: Final = 0.05
WEBHOOK_S_MAX: Final = 10.0

Post = Callable[[str, bytes, dict[str, str]], Awaitable[int]]
"""Sends a body with headers to a URL; the status of the answer, 0 when there was none."""


class Twin(Protocol):
    """What answers in the place of a provider. Attributes: `base`, where it answers, once it listens."""

    faults: FaultScript
    base: str

    def application(self) -> web.Application: ...

    def happen(self) -> None:
        """Let everything happen whose time has come, but the sending of webhooks."""
        ...

    async def deliver(self, post: Post) -> int:
        """Send the webhooks that are due; how many requests that took."""
        ...

    def close(self) -> None: ...


def run_twin(description: str, open_store: Callable[[Path], TwinStore], make: Callable[[TwinStore, str], Twin]) -> None:
    """The command line of a twin; runs until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="SQLite file, made when missing")
    # A file, not the token: everybody on the machine can read a process list.
    parser.add_argument("--control", type=Path, required=True, help="file with the token for /_twin/")
    arguments = parser.parse_args()
    token = arguments.control.read_text().strip()
    store = open_store(arguments.state)
    try:
        asyncio.run(_serve(make(store, token), arguments.port))
    finally:
        store.close()


async def _serve(twin: Twin, port: int) -> None:
    runner = web.AppRunner(twin.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        port = runner.addresses[0][1]
        twin.base = f"http://127.0.0.1:{port}"
        print(json.dumps({"port": port}), flush=True)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WEBHOOK_S_MAX)) as http:
            while not stop.is_set():
                twin.happen()
                await twin.deliver(_poster(http))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), TICK_S)
    finally:
        twin.faults.clear()
        await runner.cleanup()
        twin.close()


def _poster(http: aiohttp.ClientSession) -> Post:
    async def post(url: str, body: bytes, headers: dict[str, str]) -> int:
        try:
            async with http.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    return post
