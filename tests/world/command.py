"""The command behind `make world`: spreads seeds over worker processes, adds up, prints what went wrong.

    python -m tests.world [--seeds N] [--seed S] [--bug NAME] [--workers N]

One seed alone (`--seed S` without `--seeds`) prints its whole history. The last line is always the count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Final

from rich.console import Console
from rich.progress import track

from tests.crash.disk import PROJECT, build_shim
from tests.world.disk import FAULT_VARIABLE, FOLDER_VARIABLE, LOG_VARIABLE
from tests.world.template import Template

HARMS: Final = ("lost", "doubled", "falsely failed")
SHOWN_MAX: Final = 20
WORLD_S_MAX: Final = 300
MEMORY: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one world went, as its worker told."""

    seed: int
    violations: tuple[tuple[str, str], ...]
    digest: str
    entries: int
    steps: int
    lines: tuple[str, ...]


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A folder on a memory file system, with template and shim, that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tillstone-world-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        build_shim(folder)
        (folder / "template").mkdir()
        Template.make(folder / "template")
        yield folder


class Worker:
    """A process that lives through one world after the other; made by `open_worker`."""

    def __init__(self, asked: IO[str], told: IO[str]) -> None:
        self._asked = asked
        self._told = told

    def live(self, seed: int, bug: str = "") -> Result:
        """One world; with a bug in it the worker forks, so that no other world has it."""
        self._asked.write(f"{seed} {bug}\n")
        self._asked.flush()
        line = self._told.readline()
        if not line:
            raise RuntimeError(f"the worker died in world {seed}; its last words are above")
        told: dict[str, Any] = json.loads(line)
        return Result(
            seed=told["seed"],
            violations=tuple((harm, what) for harm, what in told["violations"]),
            digest=told["digest"],
            entries=told["entries"],
            steps=told["steps"],
            lines=tuple(told["lines"]),
        )


@contextlib.contextmanager
def open_worker(folder: Path, *, has_notes: bool = False) -> Iterator[Worker]:
    """A worker on a disk of its own below `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        own = Path(name)
        environment = {
            **os.environ,
            "LD_PRELOAD": str(folder / "disk_shim.so"),
            FOLDER_VARIABLE: str(own / "disk"),
            LOG_VARIABLE: str(own / "changes"),
            FAULT_VARIABLE: str(own / "fault"),
            "PYTHONHASHSEED": "0",  # the order of sets is part of a history
        }
        arguments = [str(folder / "template"), *(["--notes"] if has_notes else [])]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.world.worker", *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Worker(process.stdin, process.stdout)
        finally:
            process.stdin.close()
            process.wait(WORLD_S_MAX)
            process.stdout.close()


def live(
    folder: Path, seeds: Iterable[int], *, workers: int = 1, bug: str = "", has_notes: bool = False
) -> Iterator[Result]:
    """Live through `seeds`, in the order in which they end."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    done: SimpleQueue[Result | None] = SimpleQueue()

    def work() -> None:
        try:
            with open_worker(folder, has_notes=has_notes) as worker, contextlib.suppress(Empty):
                while True:
                    done.put(worker.live(waiting.get_nowait(), bug))
        finally:
            done.put(None)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        for _ in range(workers):
            while (result := done.get()) is not None:
                yield result
        for future in futures:
            future.result()


def summary(worlds: int, harms: Counter[str]) -> str:
    """The closing line."""
    return ", ".join([f"worlds {worlds}", *(f"{harm} {harms[harm]}" for harm in HARMS)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make world", description="Seeded worlds in which nothing may be lost")
    parser.add_argument("--seeds", type=int, help="how many; 1 when --seed is given, else 200")
    parser.add_argument("--seed", type=int, help="the first one")
    parser.add_argument("--bug", default="", help="plant one of tests/world/bugs.py")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    first = given.seed if given.seed is not None else 1
    count = given.seeds if given.seeds is not None else 1 if given.seed is not None else 200
    is_alone = given.seed is not None and count == 1
    harms: Counter[str] = Counter()
    worlds = failed = 0
    with workshop() as folder:
        lived = live(
            folder,
            range(first, first + count),
            workers=min(given.workers, count),
            bug=given.bug,
            has_notes=is_alone,
        )
        for result in track(lived, "worlds", total=count, console=Console(stderr=True), transient=True):
            worlds += 1
            harms.update(harm for harm, _ in result.violations)
            failed += bool(result.violations)
            if is_alone:
                print("\n".join(result.lines))
                print(f"history {result.digest}, {result.entries} entries, {result.steps} steps")
            elif result.violations and failed <= SHOWN_MAX:
                _show(result)
    print(summary(worlds, harms), flush=True)
    return 1 if failed else 0


def _show(result: Result) -> None:
    print(f"seed {result.seed}: replay with make world SEED={result.seed}")
    for harm, what in result.violations[:3]:
        print(f"  {harm}: {what}")
