"""Card payments beside a provider that takes 50 ms: each connection pays again once the provider must have answered, or
all of them together at an even rate, where a latency is counted from the moment a payment was due.

A crowd does not ask for the status of each: an answer with a receipt costs the box as much as a payment, and tills
follow events. The very last payment is followed to its end: what was begun has been settled too.

A process beside the box, like `load`; every request is signed before the clock starts.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from tests.bench.connection import Connection, open_connection
from tests.bench.part import serve_part
from tests.bench.sales import Till
from tests.bench.slow_provider import ANSWER_S, LOST

_BEGUN = b"HTTP/1.1 202 "
_OK = b"HTTP/1.1 200 "
_BUSY = b"HTTP/1.1 503 "
_APPROVED = b"approved"
_PAUSE_S = 0.01
_RETRY_AFTER_S = 1.0  # what the box says when more ask than it lets wait
_PER_ADDRESS = 200  # the door gives each address a share of its connections


class CardsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to pay: `lost` payments that stay being checked, or `payments` from `connections` at once.

    `is_followed`: ask for the status of each until it is final, and count the time to there. `rate`: payments per
    second that are due evenly; 0 for as many as the box takes.
    """

    port: int
    authority: str
    tills: tuple[str, ...]
    connections: int
    payments: int
    lost: bool = False
    is_followed: bool = False
    rate: float = 0.0


class CardsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Payments per second; milliseconds to the durable intent (202), or of followed ones on top of the provider's."""

    rate: float
    p50_ms: float
    p99_ms: float


class _Run:
    def __init__(self, spec: CardsSpec) -> None:
        self._spec = spec
        self._latencies: list[float] = []
        self._last: tuple[Connection, bytes]

    async def measure(self) -> CardsResult:
        spec = self._spec
        tills = [Till.load(Path(folder)) for folder in spec.tills]
        source = LOST if spec.lost else "card"
        signed = [tills[number % len(tills)].card(number, source) for number in range(spec.payments)]
        tls = ssl.create_default_context(cafile=spec.authority)
        connections = [
            await open_connection("127.0.0.1", spec.port, tls, local=f"127.0.0.{number // _PER_ADDRESS + 2}")
            for number in range(spec.connections)
        ]
        started = time.perf_counter()
        requests = enumerate(signed)
        async with asyncio.TaskGroup() as payers:
            for connection in connections:
                payers.create_task(self._pay_in_turn(connection, requests, started))
        if not spec.lost:
            await self._follow(*self._last)
        took = time.perf_counter() - started
        for connection in connections:
            connection.close()
        ordered = sorted(self._latencies)
        return CardsResult(
            rate=spec.payments / took,
            p50_ms=ordered[len(ordered) // 2] * 1e3,
            p99_ms=ordered[len(ordered) * 99 // 100] * 1e3,
        )

    async def _pay_in_turn(
        self, connection: Connection, requests: Iterator[tuple[int, tuple[bytes, bytes]]], started: float
    ) -> None:
        status = b""
        for number, (payment, status) in requests:
            began = time.perf_counter()
            if self._spec.rate:
                due = started + number / self._spec.rate
                await asyncio.sleep(max(0.0, due - began))
                began = due
            _require(await connection.exchange(payment), _BEGUN)
            if not self._spec.is_followed:
                self._latencies.append(time.perf_counter() - began)
            await asyncio.sleep(ANSWER_S)
            if self._spec.is_followed:
                await self._follow(connection, status)
                self._latencies.append(time.perf_counter() - began - ANSWER_S)
        if status:
            self._last = (connection, status)

    async def _follow(self, connection: Connection, status: bytes) -> None:
        while True:
            answer = await connection.exchange(status)
            _require(answer, _OK, _BUSY)
            if _APPROVED in answer:
                return
            await asyncio.sleep(_PAUSE_S if answer.startswith(_OK) else _RETRY_AFTER_S)


def _require(answer: bytes, *beginnings: bytes) -> None:
    if not answer.startswith(beginnings):
        raise ValueError(f"expected {beginnings!r}, saw {answer[:600]!r}")


def measure(spec: CardsSpec) -> CardsResult:
    """Sign, connect, pay, ask."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Run(spec).measure())


if __name__ == "__main__":
    serve_part(measure, CardsSpec)
