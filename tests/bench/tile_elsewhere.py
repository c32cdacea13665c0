"""Tiles from a process that is not the box: `python -m tests.bench.tile_elsewhere` says its port and serves until its
standard input closes.

The control of `payment_p99_reading_tiles`: readers, sockets and bytes are the same, so that what is left of the
difference is what the box itself does for a tile.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import uvloop

from appliance.ledger.merkle import TILE_WIDTH

_END_OF_HEAD: Final = b"\r\n\r\n"
_TILE: Final = bytes(TILE_WIDTH * 32)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_TILE), _TILE)


class _Always(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(_END_OF_HEAD):
            self._transport.write(_ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Always, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def tiles_elsewhere() -> Iterator[int]:
    """The port of such a process, as long as the block runs."""
    command = [sys.executable, "-m", "tests.bench.tile_elsewhere"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        yield int(serving.stdout.readline())
        serving.communicate(timeout=10)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
