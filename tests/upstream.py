"""The witness server as its own process, and two copies of one log to show it: an honest one and a fork."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from appliance.crypto import signing_key
from appliance.crypto.hybrid import PinnedKey
from appliance.evidence.cosignature import WitnessKey
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.trust import encode_trust
from appliance.ports.clock import Clock
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import SeededSigner, genesis, open_ledger, owner, running, sale, signers

NAME: Final = "witness.example/w1"
_STOP_S_MAX: Final = 20.0


class WitnessProcess:
    """`tillstone upstream witness`, started, killed and started again on the same keys and database."""

    def __init__(self, folder: Path, dsn: str, name: str = NAME, trust: bytes | None = None) -> None:
        """`trust` names the logs it knows; by default that of `tests/unit/ledger/shop.py`."""
        self._folder = folder
        self._dsn = dsn
        self._name = name
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.url = ""
        self.keys: tuple[WitnessKey, ...] = ()
        folder.mkdir(exist_ok=True)
        (folder / "trust.json").write_bytes(trust or encode_trust(owner().public, [genesis()]))
        self.start()

    def start(self) -> None:
        """Start, and wait for the line that says where it is; the second time where it was."""
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            sys.executable,
            "-m",
            "provisioning.cli",
            "upstream",
            "witness",
            "--name",
            self._name,
        ]
        files = [
            "--keys",
            str(self._folder / "keys"),
            "--trust",
            str(self._folder / "trust.json"),
            "--port",
            str(self._port),
        ]
        self._process = subprocess.Popen([*command, *files, "--postgres", self._dsn], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = msgspec.json.decode(self._process.stdout.readline())
        self.url = said["url"]
        self._port = int(self.url.rpartition(":")[2])
        self.keys = tuple(WitnessKey.from_vkey(text) for text in said["vkeys"])

    def kill(self) -> None:
        """As a power cut."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As an operator."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if process.poll() is None:
            process.send_signal(number)
        process.stdout.close()
        return process.wait(_STOP_S_MAX)


class WitnessedLog:
    """A real ledger with its checkpoints."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.checkpoints = CheckpointMaker(
            origin=ledger.statement.origin,
            note=NOTE,
            post_quantum=signers().post_quantum,
            newest=lambda: ledger.head,
            clock=clock,
        )

    async def grow(self, count: int, prefix: str = "sale") -> bytes:
        """Add entries; the checkpoint over all of them."""
        start = self.ledger.head.size
        await self.ledger.append(
            [sale(f"{prefix}-{number}") for number in range(start, start + count)], purpose=Purpose.OUTCOME
        )
        return await self.checkpoints.now()


NOTE: Final = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
NOTE_KEY: Final = NOTE.public_key


def post_quantum() -> PinnedKey:
    """The ML-DSA-87 key of the log."""
    return PinnedKey(algorithm=signers().post_quantum.algorithm, public_key=signers().post_quantum.public_key)


@asynccontextmanager
async def witnessed_log(folder: Path, clock: FakeClock | None = None) -> AsyncIterator[WitnessedLog]:
    """A new log in `folder`, or the one that is there; two folders are two histories under one name."""
    clock = clock or FakeClock()
    async with running(await open_ledger(folder, clock=clock)) as ledger:
        yield WitnessedLog(ledger, clock)
