"""Send stored sales when the box is there again, oldest first, one batch at a time.

Owns the loop between `queue.py` and the client. Must never settle a sale without the box's answer.
"""

from __future__ import annotations

import asyncio

from appliance.runtime.deadline import Deadline
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.queue import SaleQueue


async def forward(queue: SaleQueue, client: TerminalClient, *, deadline: Deadline) -> int:
    """Send batches until nothing waits; returns how many sales got a result. Raises like `TerminalClient.batch`."""
    settled_count = 0
    while (batch := await asyncio.to_thread(queue.next_batch, client.new_key())) is not None:
        answer = await client.batch(batch.body, key=batch.key, deadline=deadline)
        await asyncio.to_thread(queue.settle, answer)
        settled_count += len(answer.results)
    return settled_count
