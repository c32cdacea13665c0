"""What is outside the shop: the Stripe twin behind the world's address, and what it charged."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from provisioning.sandbox.twin_door import TwinDoor
from provisioning.terminal.durable import write_durably
from tests.rig.lan import WORLD, Lan, Place

PROJECT: Final = Path(__file__).resolve().parents[2]
CARDS_PORT: Final = 12111
_TWIN_PORT: Final = 12112


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The providers of this shop."""

    cards: TwinDoor
    api_key: str

    def charges(self) -> list[dict[str, Any]]:
        """Every payment that took money."""
        return self.cards.charges()


@contextmanager
def outside(lan: Lan, folder: Path) -> Iterator[World]:
    """Start the world; `folder` keeps what it charged and said."""
    folder.mkdir(mode=0o700, exist_ok=True)
    api_key = f"sk_test_{secrets.token_hex(12)}"
    write_durably(folder / "api-key", api_key.encode() + b"\n")
    write_durably(folder / "control-token", secrets.token_hex(16).encode() + b"\n")
    twin = [
        "provisioning.sandbox.stripe_twin", "--port", str(_TWIN_PORT),
        "--state", str(folder / "state.sqlite"), "--control", str(folder / "control-token"),
    ]  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(server(lan.world, twin, folder / "twin.log"))
        relay = ["tests.rig.relay", WORLD, str(CARDS_PORT), str(_TWIN_PORT)]
        stack.enter_context(server(lan.world, relay, folder / "relay.log"))
        # From here it is reached as the box reaches it: through the gateway, at the relay.
        yield World(cards=TwinDoor(base=f"http://{WORLD}:{CARDS_PORT}", folder=folder), api_key=api_key)


@contextmanager
def server(place: Place, module: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A module of ours, started in `place`, from its first line of output until the block ends."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            place.words(sys.executable, "-m", *module),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment(), cwd=PROJECT,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{module[0]} did not start: {log.read_text(errors='replace')[-800:]}")
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def environment() -> dict[str, str]:
    """For programs of this checkout, wherever they are started."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
