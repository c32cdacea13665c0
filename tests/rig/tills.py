"""The rig's tills: paired by an invitation, each a process in its place on the LAN, heard through its journal."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from appliance.model.ids import terminal_id
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from provisioning.terminal.home import TerminalHome
from provisioning.terminal.pairing import pair, read_qr
from tests.crash.invariants import Told
from tests.rig.box import BoxFailed
from tests.rig.lan import BOX, POS_PORT, TILLS, Lan, Place
from tests.rig.world import environment, server

POS: Final = f"https://{BOX}:{POS_PORT}"
_PAIR_MS_MAX: Final = 60_000
_SOLD_S_MAX: Final = 120
_LOOK_S: Final = 0.05
_GENUINE: Final = "The receipt is genuine."


@dataclass(kw_only=True)
class Heard:
    """What tills believed so far."""

    told: list[Told] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    finished: int = 0


class SellingTills:
    """Processes that sell until they are told to end."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
        self.processes = processes
        self._folder = folder
        self._heard = Heard()
        self._read_bytes = dict.fromkeys(processes, 0)

    def heard(self) -> Heard:
        """What the journals hold now. Raises BoxFailed when a till gave up: what it heard was not to be believed."""
        for name, process in self.processes.items():
            with journal_of(self._folder, name).open("rb") as journal:
                journal.seek(self._read_bytes[name])
                whole = journal.read().rpartition(b"\n")
            self._read_bytes[name] += len(whole[0]) + len(whole[1])
            for line in whole[0].splitlines():
                _hear(json.loads(line), self._heard)
            if process.poll() not in (None, 0):
                said = (self._folder / f"{name}.log").read_text().strip().splitlines()
                raise BoxFailed(f"{name} gave up: {' | '.join(said[-3:])}")
        return self._heard

    def wait_for_more(self, than: int, seconds_max: float) -> None:
        """Until more answers than that were final. Raises BoxFailed."""
        ends_at = time.monotonic() + seconds_max
        while len(self.heard().told) <= than:
            if time.monotonic() > ends_at:
                raise BoxFailed(f"no till sold within {seconds_max:.0f} s")
            time.sleep(_LOOK_S)

    def finish(self, seconds_max: float) -> Heard:
        """Let the tills ask until nothing is open; what they heard in all. Raises BoxFailed."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.write(b"end\n")
            process.stdin.flush()
        ends_at = time.monotonic() + seconds_max
        while (heard := self.heard()).finished < len(self.processes):
            if time.monotonic() > ends_at:
                raise BoxFailed(f"tills have questions that nobody answered within {seconds_max:.0f} s")
            time.sleep(_LOOK_S)
        return heard


@contextmanager
def selling(lan: Lan, folder: Path, seed: int) -> Iterator[SellingTills]:
    """Both tills sell, whether the box is up or not."""
    with ExitStack() as stack:
        processes = {}
        for number, name in enumerate(TILLS):
            journal_of(folder, name).touch()
            words = ["tests.rig.till", str(folder / name), str(journal_of(folder, name)), str(seed + number)]
            processes[name] = stack.enter_context(server(lan.tills[name], words, folder / f"{name}.log"))
        yield SellingTills(processes, folder)


def pair_till(home: TerminalHome, name: str, invitation: str) -> None:
    """From the gateway, which reaches the box as the tills do."""
    home.folder.mkdir(mode=0o700, exist_ok=True)
    clock = SystemClock()
    deadline = Deadline.after(clock, _PAIR_MS_MAX)
    at_box = replace(read_qr(invitation), url=POS)
    asyncio.run(pair(home, at_box, terminal=terminal_id(name), clock=clock, deadline=deadline))


def sell_once(place: Place, home: Path, tender: str) -> Path:
    """Sell by the shipped command, in `place`; the receipt's file. Raises BoxFailed."""
    paid = ["pay", "--home", str(home), "--amount", "9.90", f"--{tender}"]
    _tillstone(place, paid, home)
    receipt = (home / "build/receipt.cbor").rename(home / f"receipt-{tender}.cbor")
    return receipt


def verify_receipt(receipt: Path, trust: Path) -> None:
    """By the shipped command, which needs nothing of the box. Raises BoxFailed."""
    said = _tillstone(None, ["verify", "receipt", str(receipt), "--trust", str(trust)], receipt.parent)
    if _GENUINE not in said:
        raise BoxFailed(f"{receipt.name}: {said}")


def journal_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.journal"


def _tillstone(place: Place | None, arguments: list[str], folder: Path) -> str:
    words = [sys.executable, "-m", "provisioning.cli", *arguments]
    words = words if place is None else place.words(*words)
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=_SOLD_S_MAX, cwd=folder, env=environment()
    )
    if done.returncode != 0:
        raise BoxFailed(f"tillstone {' '.join(arguments[:2])} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _hear(line: dict[str, object], heard: Heard) -> None:
    match line:
        case {"told": dict() as told}:
            heard.told.append(Told(**told))
        case {"refused": str() as key}:
            heard.refused.add(key)
        case {"asked": str() as key}:
            heard.asked.add(key)
        case {"finished": True}:
            heard.finished += 1
        case _:
            raise ValueError(f"a journal holds {line}")
