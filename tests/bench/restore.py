"""How long a backup and its restore take, and what memory does meanwhile: a real box, then a blank second one.

    python -m tests.bench.restore --sales 100000

Owns the two boxes and the figures on the screen. Not part of `make bench`: a million sales take minutes to fill in.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.runtime.clock import SystemClock
from provisioning.box import Box
from provisioning.recipient_key import make_recipient
from provisioning.terminal.client import open_terminal
from provisioning.terminal.home import TerminalHome
from tests.bench.box import BenchBox, appliance, bench_box, ready_tills
from tests.bench.log import LogResult, LogSpec
from tests.bench.part import run_part
from tests.bench.sales import sale_body
from tests.bench.usage import folder_bytes, peak_mb, resident_mb

REQUEST_BYTES: Final = 700
ALONE_SALES: Final = 50
SALE_MS_MAX: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that came to its end: seconds, and the most memory that it had."""

    took_s: float
    peak_mb: float


def main() -> None:
    """Fill, back up while tills sell, restore, tell."""
    parser = argparse.ArgumentParser(description="Measure backup and restore.")
    parser.add_argument("--sales", type=int, default=100_000)
    sales = parser.parse_args().sales
    with tempfile.TemporaryDirectory(prefix="tillstone-bench-") as name:
        folder = Path(name)
        _public, _ = make_recipient(folder / "recovery.key")
        with bench_box(folder / "shop") as bench:
            with bench.settings.open("a") as file:
                file.write(f'\n[backup]\nrecipient_path = "{folder}/recovery.key.pub"\n')
            spec = LogSpec(
                settings=str(bench.settings), plain_entries=8_000, sizes=(sales,), request_bytes=REQUEST_BYTES
            )
            run_part("log", spec, LogResult, {**os.environ, **bench.box.environment})
            _tell("data folder", f"{folder_bytes(bench.box.data) / 1e6:,.0f} MB")
            _back_up(bench, folder / "box.backup")
            _restore(bench.box, folder)


def _back_up(bench: BenchBox, file: Path) -> None:
    with appliance(bench) as running:
        ready_tills(bench, running)
        home = bench.till("till-1")
        _tell("one sale alone, median", f"{asyncio.run(_sell(home)):.1f} ms")
        before = resident_mb(running.pid)
        command = [sys.executable, "-m", "provisioning.cli", "backup", "-o", str(file), "--dir", str(bench.box.data)]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        meanwhile = asyncio.run(_sell(home))
        if process.wait() != 0:
            raise SystemExit("the backup failed")
        _tell("backup, while it sells", f"{time.perf_counter() - started:.1f} s, {file.stat().st_size / 1e6:,.0f} MB")
        _tell("one sale meanwhile, median", f"{meanwhile:.1f} ms")
        _tell("memory of the process", f"{before:.0f} MB before, {peak_mb(running.pid):.0f} MB at most")


async def _sell(home: TerminalHome) -> float:
    took: list[float] = []
    async with open_terminal(home, clock=SystemClock()) as till:
        for number in range(ALONE_SALES):
            started = time.perf_counter()
            await till.payment(sale_body(number), key=till.new_key(), deadline=till.deadline(SALE_MS_MAX))
            took.append((time.perf_counter() - started) * 1_000)
    return sorted(took)[len(took) // 2]


def _restore(old: Box, folder: Path) -> None:
    new = folder / "second" / "box"
    known = ["--recovery-key", str(folder / "recovery.key"), "--trust", str(old.trust), "-C", str(new), "--offline"]
    restored = _run("restore", str(folder / "box.backup"), *known)
    _tell("restore onto a blank box", f"{restored.took_s:.1f} s, {restored.peak_mb:.0f} MB at most")
    owner = ["--head", str(new / "last-head"), "--needed", "0", "--trust", str(new / "trust.json")]
    key = ["--owner-key", str(old.folder / "owner" / "owner-key"), "-o", str(folder / "signed"), "--yes"]
    signed = _run("owner", "succeed", str(new / "owner.request"), *owner, *key)
    begun = _run("succession", "begin", str(folder / "signed"), "--dir", str(new))
    _tell("owner signs, new log begins", f"{signed.took_s:.1f} s, {begun.took_s:.1f} s ({begun.peak_mb:.0f} MB)")
    _tell("in all", f"{restored.took_s + signed.took_s + begun.took_s:.1f} s")
    _tell("restored folder", f"{folder_bytes(new) / 1e6:,.0f} MB")


def _run(*arguments: str) -> Ran:
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "provisioning.cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{arguments[0]} failed")
    return Ran(took_s=time.perf_counter() - started, peak_mb=used.ru_maxrss / 1_024)


def _tell(what: str, value: str) -> None:
    print(f"{what:32} {value}", flush=True)


if __name__ == "__main__":
    main()
