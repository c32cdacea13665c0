"""Digests of many boxes into one transaction: from the first digest handed in until a real node holds the transaction.

Owns the calendar and its node; the boxes are another process (`digests.py`), on the same processors.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec
from aiohttp import web

from appliance.adapters.bitcoin_rpc import BitcoinRpc
from appliance.anchor.anchoring import Anchoring, Fees
from appliance.evidence.block import REGTEST
from appliance.runtime.clock import SystemClock
from appliance.runtime.log import Log
from provisioning.sandbox.bitcoin_node import BitcoinNode, bitcoin_node
from provisioning.upstream.calendar import Calendar
from provisioning.upstream.calendar_store import CalendarStore
from tests.bench.digests import DigestsResult, DigestsSpec
from tests.bench.part import run_part, serve_part
from tests.bitcoin import KEY, Miner

CONNECTIONS = 64


class CalendarSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where files may lie, and how many digests."""

    folder: str
    digests: int


class CalendarResult(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: all promises given, then the batch in the node; and what the batch weighs."""

    promised_s: float
    anchored_s: float
    batch_digests: int
    file_bytes: int


def measure(spec: CalendarSpec) -> CalendarResult:
    folder = Path(spec.folder)
    with bitcoin_node(folder) as node:
        return asyncio.run(_measure(folder, node, spec.digests))


async def _measure(folder: Path, node: BitcoinNode, digests: int) -> CalendarResult:
    miner = Miner(node)
    await miner.begin()
    clock, log = SystemClock(), Log(sink=lambda _line: None, clock=SystemClock())
    store = await CalendarStore.open(folder / "calendar.db")
    chain = await BitcoinRpc.open(url=node.url, credential=miner.credential, network=REGTEST)
    coin = await miner.fresh_coin()
    fees = Fees(per_day_max_sat=100_000)
    anchoring = Anchoring(store=store, chain=chain, key=KEY, funds=[coin.outpoint], fees=fees, clock=clock, log=log)
    calendar = Calendar(address="http://127.0.0.1", store=store, anchoring=anchoring, every_ms=0, clock=clock, log=log)
    runner = web.AppRunner(calendar.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    asked = DigestsSpec(port=runner.addresses[0][1], digests=digests, connections=CONNECTIONS)
    began = time.perf_counter()
    handed = await asyncio.to_thread(run_part, "digests", asked, DigestsResult, os.environ)
    promised = time.perf_counter()
    await calendar.step()
    anchored = time.perf_counter()
    counts = await store.read(lambda connection: connection.execute("SELECT count FROM batches").fetchall())
    waiting = await miner.rpc("getrawmempool")
    assert handed.promised == digests == sum(count for (count,) in counts)
    assert len(waiting) == len(counts) == 1
    await runner.cleanup()
    await chain.close()
    await store.close()
    size = (folder / "calendar.db").stat().st_size
    return CalendarResult(
        promised_s=promised - began, anchored_s=anchored - promised, batch_digests=digests, file_bytes=size
    )


if __name__ == "__main__":
    serve_part(measure, CalendarSpec)
