"""The load generator: a process beside the box, on uvloop, with every request signed before the clock starts.

Owns three ways of asking: `closed` (each connection sends when its answer is there), `paced` (a fixed rate; latency is
counted from the moment a request was due, so that a stall shows in full), and batches in the closed way. Must never
count an answer that is not 200: one such answer ends the run.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import uvloop

from tests.bench.connection import Connection, open_connection
from tests.bench.part import serve_part
from tests.bench.sales import Till
from tests.bench.tile_reader import reading_tiles
from tests.bench.usage import cpu_seconds

_OK = b"HTTP/1.1 200 "


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        pid: the box's process, whose processor time is measured over the timed requests.
        requests: timed ones; `warm_up` more go before them.
        rate: requests per second of the paced way.
        batch: sales in one request; 0 sends payments.
        tiles_port: where tiles are read while the timed requests run; 0 reads none.
        tiles: full tiles that the log has for it.
    """

    port: int
    authority: str
    tills: tuple[str, ...]
    pid: int
    way: Literal["closed", "paced"]
    connections: int
    requests: int
    warm_up: int = 0
    rate: float = 0.0
    batch: int = 0
    tiles_port: int = 0
    tiles: int = 0


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. Latencies in milliseconds, processor times in microseconds per sale."""

    sales: int
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    box_cpu_us: float
    generator_cpu_us: float


class _Run:
    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self.latencies: list[float] = []

    async def measure(self) -> LoadResult:
        spec = self._spec
        tills = [Till.load(Path(folder)) for folder in spec.tills]
        count = spec.warm_up + spec.requests
        prepared = [_prepare(tills[number % len(tills)], number, spec.batch) for number in range(count)]
        tls = ssl.create_default_context(cafile=spec.authority)
        connections = [await open_connection("127.0.0.1", spec.port, tls) for _ in range(spec.connections)]
        await self._send_closed(connections, iter(prepared[: spec.warm_up]))
        self.latencies.clear()
        box_before, own_before, started = cpu_seconds(spec.pid), time.process_time(), time.perf_counter()
        timed = iter(prepared[spec.warm_up :])
        async with reading_tiles(spec.tiles_port, spec.tiles):
            await (
                self._send_closed(connections, timed) if spec.way == "closed" else self._send_paced(connections, timed)
            )
        took = time.perf_counter() - started
        box, own = cpu_seconds(spec.pid) - box_before, time.process_time() - own_before
        for connection in connections:
            connection.close()
        return self._result(took, box, own)

    def _result(self, took: float, box: float, own: float) -> LoadResult:
        ordered = sorted(self.latencies)
        sales = len(ordered) * max(1, self._spec.batch)
        return LoadResult(
            sales=sales,
            rate=sales / took,
            p50_ms=ordered[len(ordered) // 2] * 1e3,
            p99_ms=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3,
            max_ms=ordered[-1] * 1e3,
            box_cpu_us=box / sales * 1e6,
            generator_cpu_us=own / sales * 1e6,
        )

    async def _send_closed(self, connections: list[Connection], requests: Iterator[bytes]) -> None:
        async with asyncio.TaskGroup() as senders:
            for connection in connections:
                senders.create_task(self._send_in_turn(connection, requests))

    async def _send_in_turn(self, connection: Connection, requests: Iterator[bytes]) -> None:
        for request in requests:
            started = time.perf_counter()
            _require_ok(await connection.exchange(request))
            self.latencies.append(time.perf_counter() - started)

    async def _send_paced(self, connections: list[Connection], requests: Iterator[bytes]) -> None:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in connections:
            free.put_nowait(connection)
        async with asyncio.TaskGroup() as senders:
            started = time.perf_counter()
            for number, request in enumerate(requests):
                due = started + number / self._spec.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                senders.create_task(self._send_when_free(free, request, due))

    async def _send_when_free(self, free: asyncio.Queue[Connection], request: bytes, due: float) -> None:
        connection = await free.get()
        _require_ok(await connection.exchange(request))
        self.latencies.append(time.perf_counter() - due)
        free.put_nowait(connection)


def _prepare(till: Till, number: int, batch: int) -> bytes:
    return till.batch(batch) if batch else till.payment(number)


def _require_ok(answer: bytes) -> None:
    if not answer.startswith(_OK):
        raise ValueError(f"expected 200, saw {answer[:600]!r}")


def measure(spec: LoadSpec) -> LoadResult:
    """Sign, connect, send, count."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Run(spec).measure())


if __name__ == "__main__":
    serve_part(measure, LoadSpec)
