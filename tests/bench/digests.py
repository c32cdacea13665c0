"""Hands digests to a calendar over kept connections, as boxes do, and reads each promise."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import msgspec

from tests.bench.part import serve_part


class DigestsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How many, over how many connections, to which port of this machine."""

    port: int
    digests: int
    connections: int


class DigestsResult(msgspec.Struct, frozen=True, kw_only=True):
    """How many promises came."""

    promised: int


def measure(spec: DigestsSpec) -> DigestsResult:
    return DigestsResult(promised=asyncio.run(_hand_in(spec)))


async def _hand_in(spec: DigestsSpec) -> int:
    digests = iter([hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(spec.digests)])
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(_worker(spec.port, digests)) for _ in range(spec.connections)]
    return sum(worker.result() for worker in workers)


async def _worker(port: int, digests: Iterator[bytes]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    promised = 0
    for digest in digests:
        writer.write(b"POST /digest HTTP/1.1\r\nHost: calendar\r\nContent-Length: 32\r\n\r\n" + digest)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        size = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(size)
        promised += 1
    writer.close()
    await writer.wait_closed()
    return promised


if __name__ == "__main__":
    serve_part(measure, DigestsSpec)
