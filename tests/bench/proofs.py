"""Proofs and tiles of a whole log, as the public door reads them. Owns one archive; nothing else runs on its loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import msgspec

from appliance.ledger.archive import Archive
from appliance.ledger.database import connect_reader
from appliance.ledger.recover import load_tail
from appliance.ledger.tlog import TilePath
from tests.bench.part import serve_part

PROOFS = 3_000
TILES = 5_000


class ProofsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which log; its process has ended."""

    data: str


class ProofsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds for one proof of a random entry under a random size, one after the other; tiles per second."""

    size: int
    proof_p50: float
    proof_p99: float
    tiles: float


def measure(spec: ProofsSpec) -> ProofsResult:
    """Ask for entries and sizes by chance: most of their tiles are in no cache."""
    return asyncio.run(_measure(Path(spec.data)))


async def _measure(folder: Path) -> ProofsResult:
    with closing(connect_reader(folder)) as connection:
        tail = load_tail(connection)
    archive = await Archive.open(folder, lambda: tail)
    chosen = random.Random(1)
    try:

        async def prove() -> None:
            seq = chosen.randrange(tail.size)
            await archive.inclusion(seq, chosen.randrange(seq + 1, tail.size + 1))

        async def read() -> None:
            await archive.tile(TilePath(level=0, number=chosen.randrange(tail.size >> 8)))

        proofs = sorted(await _times(prove, PROOFS))
        tiles = await _times(read, TILES)
    finally:
        await archive.close()
    return ProofsResult(
        size=tail.size,
        proof_p50=proofs[PROOFS // 2] * 1_000,
        proof_p99=proofs[PROOFS * 99 // 100] * 1_000,
        tiles=TILES / sum(tiles),
    )


async def _times(question: Callable[[], Awaitable[None]], count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await question()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    serve_part(measure, ProofsSpec)
