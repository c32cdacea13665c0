"""A shop whose box dies: its folder, its process, its Stripe twin and its two tills. Holds no test.

A template is made once (owner key, genesis, two paired tills) and copied for each test.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerKey
from appliance.ledger.genesis import STATEMENT_KIND, GenesisStatement, SignedGenesis
from appliance.ledger.trust import encode_trust
from appliance.runtime.clock import SystemClock
from provisioning.box import Box, ShopFacts
from provisioning.certificate import DoorFiles, issue
from provisioning.sandbox.layout import SandboxFolder
from provisioning.sandbox.tills import ready_tills
from provisioning.settings_file import CardProvider, Ports, write_settings
from provisioning.terminal.client import TerminalClient, open_terminal
from provisioning.token import TokenKeys
from tests.crash.box import SEED_BYTES, software_keys
from tests.noon import zone_at_noon
from tests.stripe_twin import CONTROL, KEY, TwinProcess

PROJECT = Path(__file__).resolve().parents[2]
START_S_MAX = 20.0
DEATH_S_MAX = 40.0
_LOOK_S = 0.01
SHOP = ShopFacts(serial="CRASH-1", timezone=zone_at_noon())


class Nursery:
    """Forks boxes; see `tests/crash/box.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.box"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, *, config: Path, log: Path, environment: dict[str, str]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"config": str(config), "log": str(log), "environment": environment}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Twin:
    """A twin in real time, and what it knows about money."""

    def __init__(self, folder: Path, module: str = "provisioning.sandbox.stripe_twin") -> None:
        self._process = TwinProcess(folder, module)
        self._process.start()

    @property
    def base(self) -> str:
        return self._process.base

    def close(self) -> None:
        self._process.stop(signal.SIGTERM)

    async def control(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url, headers = f"{self.base}/_twin/{name}", {"Authorization": f"Bearer {CONTROL}"}
        async with aiohttp.ClientSession() as http, http.request(method, url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def fault(self, name: str, **more: Any) -> None:
        await self.control("POST", "faults", {"fault": name, **more})

    async def until_moved(self, payment: str, *, refunded: int = 0) -> None:
        """Wait until `payment` is charged and `refunded` of it given back."""
        until = time.monotonic() + START_S_MAX
        while True:
            charges = await self.charges(payment)
            if charges and charges[0]["refunded"] == refunded:
                return
            assert time.monotonic() < until, charges
            await asyncio.sleep(_LOOK_S)

    async def heal(self) -> None:
        await self.control("DELETE", "faults")

    async def charges(self, payment: str = "") -> list[dict[str, Any]]:
        """Every payment that took money; with `payment`, those of this key."""
        charges: list[dict[str, Any]] = (await self.control("GET", "charges"))["charges"]
        return [each for each in charges if payment in ("", each["metadata"].get("tillstone_payment"))]


@dataclass(kw_only=True)
class CrashShop:
    """One box on its folder; `start` and `kill` as often as wanted."""

    path: Path
    nursery: Nursery
    twin: Twin
    port: int
    store_key: bytes | None
    environment: dict[str, str] = field(default_factory=dict)
    pid: int | None = None

    @property
    def folder(self) -> SandboxFolder:
        return SandboxFolder(self.path)

    @property
    def data(self) -> Path:
        return self.folder.data

    @property
    def log(self) -> str:
        """What the box said, for a test that failed."""
        return (self.path / "appliance.log").read_text()

    def launch(self, die_at: str = "") -> None:
        """Start the box; it is not ready yet."""
        died = self.path / "died"
        (self.data / "doors.json").unlink(missing_ok=True)
        died.unlink(missing_ok=True)
        environment = {**self.environment, "DIE_AT": die_at, "DIED_FILE": str(died)}
        self.pid = self.nursery.fork(
            config=self.folder.box / "tillstone.toml", log=self.path / "appliance.log", environment=environment
        )

    async def start(self, die_at: str = "") -> None:
        """Start the box and wait until its doors are open."""
        self.launch(die_at)
        until = time.monotonic() + START_S_MAX
        while not (self.data / "doors.json").exists():
            assert time.monotonic() < until, self.log
            assert self.pid is not None
            assert is_alive(self.pid), self.log
            await asyncio.sleep(_LOOK_S)

    async def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            await self._gone()

    async def died(self) -> str:
        """Wait for the box to kill itself; returns where it did."""
        await self._gone()
        died = self.path / "died"
        assert died.exists(), f"the box ended by itself, not at its point:\n{self.log}"
        return died.read_text()

    async def _gone(self) -> None:
        pid, self.pid = self.pid, None
        until = time.monotonic() + DEATH_S_MAX
        while pid is not None and is_alive(pid):
            assert time.monotonic() < until, f"the box {pid} lives on past its point:\n{self.log}"
            await asyncio.sleep(_LOOK_S)

    @asynccontextmanager
    async def till(self, name: str = "till-1") -> AsyncIterator[TerminalClient]:
        async with open_terminal(self.folder.till(name), clock=SystemClock()) as client:
            yield client


def is_alive(pid: int) -> bool:
    """Whether the process runs; unlike a signal, a descriptor cannot meet another process of the same number."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


def make_template(path: Path, nursery: Nursery, twin: Twin) -> None:
    """A box that has sold nothing yet, with two paired tills."""
    box = path / "box"
    (box / "data").mkdir(parents=True)
    (path / "stripe-key").touch(mode=0o600)
    (path / "stripe-key").write_text(KEY + "\n")
    (box / "seeds").write_bytes(secrets.token_bytes(3 * SEED_BYTES))
    owner = OwnerKey.generate()
    classical, post_quantum, _ = software_keys(box)
    keys = HybridPublic(
        classical=PinnedKey(algorithm=cose.ED25519, public_key=classical.public_key),
        post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=post_quantum.public_key),
    )
    statement = GenesisStatement(
        origin=SHOP.origin, created_ms=SystemClock().now_ms(), keys=keys, note_key=classical.public_key
    ).encode()
    signature = owner.sign_statement(STATEMENT_KIND, statement)
    genesis = SignedGenesis(statement=statement, owner_signature=signature.encode())
    (box / "genesis.cbor").write_bytes(genesis.encode_body())
    (box / "trust.json").write_bytes(encode_trust(owner.public, [genesis]))
    door = issue(box / "tls", now=datetime.datetime.now(datetime.UTC), shop=SHOP.name)
    shop = settle_in(path, nursery, twin)
    asyncio.run(shop.start())
    ready_tills(shop.folder, door=door, pos_url=f"https://127.0.0.1:{shop.port}")
    asyncio.run(shop.kill())


def copy_shop(template: Path, path: Path, nursery: Nursery, twin: Twin) -> CrashShop:
    """A shop of its own for one test."""
    shutil.copytree(template, path, ignore=shutil.ignore_patterns("*.sock", "doors.json", "appliance.log"))
    shop = settle_in(path, nursery, twin)
    # Paired tills are only pointed at the new port: nothing is asked of a box.
    ready_tills(shop.folder, door=_door(shop.folder.box), pos_url=f"https://127.0.0.1:{shop.port}")
    return shop


def settle_in(path: Path, nursery: Nursery, twin: Twin) -> CrashShop:
    """Write the settings for this folder, a free port and this twin."""
    folder = SandboxFolder(path)
    classical, post_quantum, store_key = software_keys(folder.box)
    keys = TokenKeys(
        classical_algorithm=cose.ED25519,
        classical_public=classical.public_key,
        wrapping_public=None,
        post_quantum_public=post_quantum.public_key,
        envelope=b"",
    )
    port = free_port()
    write_settings(
        Box(folder=folder.box, shop=SHOP, module=Path("/nonexistent/libsofthsm2.so"), keys=keys),
        tcti="none",
        ports=Ports(pos=port, public=0),
        door=_door(folder.box),
        cards=CardProvider(api_base=twin.base, api_key=path / "stripe-key"),
        room_bytes_min=16 * 2**20,
    )
    return CrashShop(path=path, nursery=nursery, twin=twin, port=port, store_key=store_key)


def _door(box: Path) -> DoorFiles:
    tls = box / "tls"
    return DoorFiles(authority=tls / "authority.pem", certificate=tls / "pos-certificate.pem", key=tls / "pos-key.pem")


def free_port() -> int:
    """A port that stays the box's over all its starts, as on a device."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
