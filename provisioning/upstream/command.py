"""`tillstone upstream witness`: runs the witness of a head office until it is told to stop.

Owns arguments, the listening socket and the line that says where it is and by which keys it is known. A password never
stands in an argument: PostgreSQL's own files and sockets (PGPASSFILE, peer) carry it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

import msgspec
from aiohttp import web

from appliance.ledger.log_keys import LogKeys
from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from appliance.model.errors import Rejected, Unavailable
from provisioning.commands.outcome import DONE, CannotDo
from provisioning.upstream.calendar_command import add_calendar
from provisioning.upstream.witness import WitnessDoor
from provisioning.upstream.witness_keys import WitnessSigner, open_witness_keys
from provisioning.upstream.witness_store import WitnessStore


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`upstream witness ...`."""
    parser = subparsers.add_parser("upstream", description="Run a service of a head office.")
    services = parser.add_subparsers(metavar="SERVICE", required=True)
    witness = services.add_parser("witness", help="vouch for the heads of logs (C2SP tlog-witness)")
    witness.add_argument("--name", required=True, help="of the witness, such as witness.example/w1")
    witness.add_argument("--keys", required=True, type=Path, metavar="FOLDER", help="its keys; missing ones are made")
    witness.add_argument(
        "--trust", required=True, type=Path, action="append", metavar="FILE", help="logs it vouches for"
    )
    witness.add_argument("--postgres", default="postgresql:///tillstone", metavar="DSN", help="without a password")
    witness.add_argument("--host", default="127.0.0.1")
    witness.add_argument("--port", type=int, default=9280, help="0 takes a free one")
    witness.set_defaults(run=run_witness)
    add_calendar(services)


def run_witness(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    signer = open_witness_keys(arguments.keys, arguments.name)
    logs = _logs(arguments.trust)
    try:
        asyncio.run(_serve(arguments, signer, logs))
    except Unavailable as trouble:
        next_step = (
            "start PostgreSQL, or name another with --postgres; provisioning/upstream/README.md makes its database"
        )
        raise CannotDo(trouble.detail, next_step) from trouble
    return DONE


async def _serve(arguments: argparse.Namespace, signer: WitnessSigner, logs: dict[str, LogKeys]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = await WitnessStore.open(arguments.postgres)
    try:
        door = WitnessDoor(signer=signer, logs=logs, store=store, now_s=lambda: int(time.time()))
        runner = web.AppRunner(door.application(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, arguments.host, arguments.port).start()
            port = runner.addresses[0][1]
            answer = {"url": f"http://{arguments.host}:{port}", "vkeys": signer.vkeys, "logs": sorted(logs)}
            print(msgspec.json.encode(answer).decode(), flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()
    finally:
        await store.close()


def _logs(files: list[Path]) -> dict[str, LogKeys]:
    logs: dict[str, LogKeys] = {}
    for file in files:
        try:
            trust = load_trust(file.read_bytes()[: TRUST_BYTES_MAX + 1])
        except (OSError, Rejected) as cause:
            raise CannotDo(f"{file} cannot be used: {cause}", "name a trust.json of the boxes' owner") from cause
        for log_id, statement in trust.logs.items():
            known = trust.keys[log_id]
            if logs.setdefault(statement.origin, known) != known:
                raise CannotDo(
                    f"{file}: another log is called {statement.origin}", "one name, one log: check the files"
                )
    return logs
