"""What a terminal learns while it works: the highest verified head and the box's clock.

Owns the one copy in memory and its order of change. Its rules:
- a head only ever rises; it is durable before the answer that proved it is handed to the till;
- the file is written on a thread: a slow card in a till must not stop its event loop.
"""

from __future__ import annotations

import asyncio

import msgspec

from appliance.wire.requests import HeadBody, Seen
from provisioning.terminal.home import Memory, TerminalHome


class TerminalMemory:
    """The kept memory of one terminal."""

    def __init__(self, *, home: TerminalHome, memory: Memory) -> None:
        """`memory` is what `home` kept last."""
        self._home = home
        self._memory = memory
        self._lock = asyncio.Lock()  # two answers at once must not write an older memory last

    @property
    def seen(self) -> Seen | None:
        return self._memory.seen

    @property
    def clock_offset_ms(self) -> int:
        """Add this to the terminal's clock to have the box's."""
        return self._memory.clock_offset_ms

    @property
    def proof(self) -> HeadBody | None:
        """`seen` with its signatures; None where the head was kept before terminals kept them."""
        return self._memory.proof

    async def learn_head(self, head: Seen, proof: HeadBody) -> None:
        """Keep `head` if it is the highest yet."""
        async with self._lock:
            if self._memory.seen is None or head.size > self._memory.seen.size:
                await self._keep(msgspec.structs.replace(self._memory, seen=head, proof=proof))

    async def learn_clock(self, offset_ms: int) -> None:
        """Keep how far the box's clock is ahead of the terminal's."""
        async with self._lock:
            await self._keep(msgspec.structs.replace(self._memory, clock_offset_ms=offset_ms))

    async def _keep(self, memory: Memory) -> None:
        await asyncio.to_thread(self._home.keep_memory, memory)
        self._memory = memory
