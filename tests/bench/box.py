"""A real box for measuring: SoftHSM, swtpm and `python -m appliance` on loopback, in a folder of its own.

Owns the processes and the tills. Must never be used for anything but measuring: its folder is thrown away.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.model.errors import Unavailable
from provisioning.box import Box, make_box, start_tpm
from provisioning.certificate import DoorFiles, issue
from provisioning.local_door import LocalDoor
from provisioning.sandbox.children import end_child, start_child, wait_ready
from provisioning.sandbox.tills import open_till, pair_till
from provisioning.settings_file import Ports, Sections, write_settings
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome
from tests.bench.sales import sale_body

TILLS: Final = ("till-1", "till-2")
START_S_MAX: Final = 60.0
SALE_MS_MAX: Final = 10_000
APPLIANCE: Final = "appliance"
SLOW_HSM: Final = "tests.bench.slow_hsm"
SCREENING: Final[Sections] = {"screening": {"velocity_mode": "off", "hour_ceiling_mode": "off"}}
"""Two tills that sell hundreds of times a second would be watched at each sale, and no shop's are."""
SLOW_PROVIDER: Final = "tests.bench.slow_provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchBox:
    """A made box whose TPM runs."""

    box: Box
    door: DoorFiles
    settings: Path

    @property
    def till_folders(self) -> tuple[str, ...]:
        return tuple(str(self.till(name).folder) for name in TILLS)

    def till(self, name: str) -> TerminalHome:
        return TerminalHome(folder=self.box.folder.parent / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAppliance:
    """The process, its door, and how long it took to be ready."""

    pid: int
    port: int
    public_port: int
    start_s: float


@contextmanager
def bench_box(folder: Path) -> Iterator[BenchBox]:
    """Make a box and power on its TPM."""
    box = make_box(folder / "box")
    tpm = start_tpm(box)
    try:
        door = issue(box.folder / "tls", now=datetime.datetime.now(datetime.UTC), shop=box.shop.name)
        settings = write_settings(
            box,
            tcti=tpm.tcti,
            ports=Ports(pos=0, public=0),
            door=door,
            cards=None,
            room_bytes_min=64 << 20,
            further=SCREENING,
        )
        yield BenchBox(box=box, door=door, settings=settings)
    finally:
        tpm.process.terminate()
        tpm.process.wait()


@contextmanager
def appliance(bench: BenchBox, module: str = APPLIANCE) -> Iterator[RunningAppliance]:
    """Start the process, wait until it sells, stop it in order."""
    data = bench.box.data
    (data / "doors.json").unlink(missing_ok=True)
    log = bench.box.folder.parent / "appliance.log"
    command = [sys.executable, "-m", module, "--config", str(bench.settings)]
    started = time.perf_counter()
    process = start_child(command, environment=bench.box.environment, log=log)
    try:
        wait_ready(process, lambda: _answers(data), name=module, log=log, seconds_max=START_S_MAX)
        start_s = time.perf_counter() - started
        doors = json.loads((data / "doors.json").read_bytes())
        # `setpriv` replaces itself by the command, so its pid is the appliance's.
        yield RunningAppliance(
            pid=process.pid, port=int(doors["pos"]), public_port=int(doors["public"]), start_s=start_s
        )
    finally:
        end_child(process)


def ready_tills(bench: BenchBox, running: RunningAppliance) -> None:
    """Pair both tills when they are new, and let each make one sale whose receipt is verified in full."""
    for name in TILLS:
        home = bench.till(name)
        if not (home.folder / "terminal.json").exists():
            home.folder.mkdir(mode=0o700)
            pair_till(home, name, LocalDoor(bench.box.data))
        write_durably(home.folder / "authority.pem", bench.door.authority.read_bytes())
        url = f"https://127.0.0.1:{running.port}"
        home.keep_profile(
            msgspec.structs.replace(home.profile(), url=url, ca_file="authority.pem", certificate_sha256=None)
        )
        asyncio.run(_sell(home))


async def _sell(home: TerminalHome) -> None:
    async with open_till(home) as till:
        answer = await till.payment(sale_body(0), key=till.new_key(), deadline=till.deadline(SALE_MS_MAX))
        if answer.state != "approved" or answer.receipt is None:
            raise ValueError(f"expected an approved sale with its receipt, saw {answer.state} {answer.code}")


def _answers(data: Path) -> bool:
    if not (data / "doors.json").exists():
        return False
    try:
        LocalDoor(data).status()
    except Unavailable:
        return False
    return True
