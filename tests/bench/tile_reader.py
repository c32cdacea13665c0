"""Strangers that read tiles while a till pays: as fast as the public door lets all of them together.

Runs inside the load generator, because a process of its own would take processor time that no real reader takes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.api.public.access import READS_PER_S
from tests.bench.connection import Connection, open_connection

_OK = b"HTTP/1.1 200 "
_TOO_FAST = b"HTTP/1.1 429 "


@asynccontextmanager
async def reading_tiles(port: int, tiles: int) -> AsyncIterator[None]:
    """Read full tiles of level 0 by chance, of the first `tiles`, as long as the block runs; port 0 reads nothing.

    Raises:
        ValueError: an answer that is neither a tile nor "too fast".
    """
    if not port:
        yield
        return
    connection = await open_connection("127.0.0.1", port)
    async with asyncio.TaskGroup() as readers:
        reader = readers.create_task(_read(connection, tiles))
        yield
        reader.cancel()
    connection.close()


async def _read(connection: Connection, tiles: int) -> None:
    chosen, due = random.Random(1), time.perf_counter()
    while True:
        path = f"/tile/0/{chosen.randrange(tiles):03d}"
        answer = await connection.exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if not answer.startswith((_OK, _TOO_FAST)):
            raise ValueError(f"expected the tile {path}, saw {answer[:600]!r}")
        due += 1 / READS_PER_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
