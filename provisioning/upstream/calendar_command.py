"""`tillstone upstream calendar`: runs the calendar of a head office until it is told to stop.

Owns arguments, the anchoring key's file, the listening socket and the line that says where it is and which address to
pay. It steps and serves on one event loop; a step never holds up an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from appliance.adapters.bitcoin_rpc import BitcoinRpc
from appliance.anchor.anchoring import Anchoring, Fees
from appliance.config.secret import Secret
from appliance.evidence.block import NETWORKS
from appliance.evidence.transaction import PRIVATE_KEY_BYTES, AnchorKey, read_outpoint
from appliance.model.errors import Rejected
from appliance.runtime.clock import SystemClock
from appliance.runtime.log import Log, as_console
from provisioning.commands.outcome import DONE, CannotDo
from provisioning.terminal.durable import write_durably
from provisioning.upstream.calendar import Calendar
from provisioning.upstream.calendar_store import CalendarStore

STEP_S_MAX: Final = 120.0


def add_calendar(services: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`upstream calendar ...`."""
    calendar = services.add_parser("calendar", help="put digests into Bitcoin blocks (OpenTimestamps)")
    calendar.add_argument("--url", required=True, help="where boxes reach it; stands in every promise, for ever")
    calendar.add_argument("--folder", required=True, type=Path, help="its file and its key; a missing key is made")
    calendar.add_argument("--node", required=True, metavar="URL", help="the Bitcoin node's RPC")
    calendar.add_argument(
        "--credential", required=True, type=Path, metavar="FILE", help="user:password, Core's .cookie"
    )
    calendar.add_argument("--network", choices=sorted(NETWORKS), default="mainnet")
    calendar.add_argument("--coin", action="append", default=[], metavar="TXID:INDEX", help="paid to its address")
    calendar.add_argument("--every", type=int, default=3600, metavar="SECONDS", help="pause between two batches")
    calendar.add_argument("--look-every", type=float, default=10.0, metavar="SECONDS", help="at the node, for blocks")
    calendar.add_argument("--fees-per-day", type=int, default=100_000, metavar="SAT", help="never more in 24 hours")
    calendar.add_argument("--host", default="127.0.0.1")
    calendar.add_argument("--port", type=int, default=9281, help="0 takes a free one")
    calendar.set_defaults(run=run_calendar)


def run_calendar(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    try:
        arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _open_key(arguments.folder / "anchor.key")
        credential = Secret(arguments.credential.read_bytes())
        asyncio.run(_serve(arguments, key, credential))
    except (OSError, Rejected) as cause:
        raise CannotDo(
            f"the calendar cannot run: {cause}", "check --folder, --credential, --node and --coin"
        ) from cause
    return DONE


async def _serve(arguments: argparse.Namespace, key: AnchorKey, credential: Secret) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    network = NETWORKS[arguments.network]
    clock = SystemClock()
    log = Log(sink=lambda line: print(line, end="", file=sys.stderr), clock=clock, layout=as_console)
    store = await CalendarStore.open(arguments.folder / "calendar.db")
    chain = await BitcoinRpc.open(url=arguments.node, credential=credential, network=network)
    anchoring = Anchoring(
        store=store,
        chain=chain,
        key=key,
        funds=[read_outpoint(each) for each in arguments.coin],
        fees=Fees(per_day_max_sat=arguments.fees_per_day),
        clock=clock,
        log=log,
    )
    calendar = Calendar(
        address=arguments.url,
        store=store,
        anchoring=anchoring,
        every_ms=arguments.every * 1_000,
        clock=clock,
        log=log,
    )
    runner = web.AppRunner(calendar.application(), access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, arguments.host, arguments.port).start()
        answer = {"url": f"http://{arguments.host}:{runner.addresses[0][1]}", "pay_to": key.address(network)}
        print(msgspec.json.encode(answer).decode(), flush=True)
        await _step_until(stop, calendar, arguments.look_every)
    finally:
        await runner.cleanup()
        await chain.close()
        await store.close()


async def _step_until(stop: asyncio.Event, calendar: Calendar, every_s: float) -> None:
    while not stop.is_set():
        try:
            async with asyncio.timeout(STEP_S_MAX):
                await calendar.step()
        except TimeoutError:
            pass  # the node hangs; what was done is in the file
        try:
            async with asyncio.timeout(every_s):
                await stop.wait()
        except TimeoutError:
            continue


def _open_key(file: Path) -> AnchorKey:
    if not file.exists():
        # On the disk before anybody pays to its address.
        write_durably(file, secrets.token_hex(PRIVATE_KEY_BYTES).encode() + b"\n")
    if file.stat().st_mode & 0o077:
        raise CannotDo(f"{file} may be read by others", f"chmod 600 {file}")
    return AnchorKey.read(file.read_text())
