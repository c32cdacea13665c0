"""Through a shop's proxy: HTTPS leaves by CONNECT, what the proxy refuses was not sent, what is plain goes directly."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp.connector
import pytest

from appliance.adapters.provider_http import Reply, RestLine
from appliance.config.outbound import Outbound
from appliance.ports.provider import NotSent
from provisioning.certificate import DoorFiles, issue

OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


class Proxy:
    """A proxy that knows CONNECT; `to` is where every tunnel ends, None for nowhere."""

    def __init__(self, answer: bytes, to: int | None) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._to = to

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        writer.write(self._answer)
        if self._to is not None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, far_writer))
                    group.create_task(_copy(far_reader, writer))
            finally:
                await _closed(far_writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while octets := await reader.read(1 << 16):
            writer.write(octets)
            await writer.drain()
    writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port; when this ends, so have all of its connections."""
    running: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side went away, which is part of the story
        finally:
            await _closed(writer)

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if running:
            await asyncio.wait(running)


async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    await writer.drain()


async def ask(base: str, port: int) -> Reply | NotSent | object:
    line = RestLine(base, proxy=Outbound(proxy=f"http://127.0.0.1:{port}").proxy_for(base))
    try:
        return await line.send("GET", "/v1/orders", {}, None)
    finally:
        await line.close()


@pytest.fixture
def door(tmp_path: Path) -> DoorFiles:
    return issue(tmp_path, now=datetime.datetime.now(datetime.UTC), shop="Provider")


async def test_https_leaves_through_a_tunnel_and_is_still_checked(
    door: DoorFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(door.certificate, door.key)
    async with listening(provider, own) as far:
        proxy = Proxy(OPENED, far)
        async with listening(proxy.serve) as near:
            assert isinstance(await ask(f"https://127.0.0.1:{far}", near), NotSent), "nobody vouches for the provider"
            trusting = ssl.create_default_context(cafile=str(door.authority))
            monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
            answer = await ask(f"https://127.0.0.1:{far}", near)
    assert isinstance(answer, Reply)
    assert answer.body == b"{}"
    assert proxy.asked == [f"CONNECT 127.0.0.1:{far} HTTP/1.1"] * 2


async def test_what_a_proxy_refuses_or_drops_was_not_sent() -> None:
    for said in (REFUSED, OPENED):
        proxy = Proxy(said, None)
        async with listening(proxy.serve) as near:
            assert await ask("https://api.provider.example", near) == NotSent(reason="connection_failed")
        assert proxy.asked == ["CONNECT api.provider.example:443 HTTP/1.1"], "the proxy looks the name up"


async def test_a_proxy_that_is_away_sends_nothing() -> None:
    async with listening(provider) as gone:
        pass
    assert await ask("https://api.provider.example", gone) == NotSent(reason="connection_failed")


async def test_what_is_on_this_machine_is_asked_directly() -> None:
    proxy = Proxy(REFUSED, None)
    async with listening(proxy.serve) as near, listening(provider) as far:
        assert isinstance(await ask(f"http://127.0.0.1:{far}", near), Reply)
    assert proxy.asked == []
