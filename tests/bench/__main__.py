"""`python -m tests.bench`: measure a real box on this machine, print a table, write `build/bench.json`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.bench.figures import Figure, show, write
from tests.bench.part import PartFailed
from tests.bench.suite import QUICK, WHOLE, Suite

PROJECT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """0 when everything could be measured, whatever came out; 1 when a part failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of five; the figures are rougher")
    parser.add_argument("--only", action="append", default=[], metavar="FIGURE", help="measure what this figure needs")
    parser.add_argument("--output", type=Path, default=PROJECT / "build" / "bench.json")
    asked = parser.parse_args(arguments)
    console = Console(stderr=False)
    figures: list[Figure] = []
    failed = ""
    # Not below /tmp where that is memory: a commit must reach a disk.
    (PROJECT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=PROJECT / "build") as folder:
        suite = Suite(
            plan=QUICK if asked.quick else WHOLE,
            folder=Path(folder),
            only=frozenset(asked.only),
            say=lambda step: console.print(f"[dim]{step}[/dim]"),
        )
        try:
            figures.extend(suite.run())
        except PartFailed as failure:
            failed = str(failure)
    if failed:
        console.print(f"[red]{failed}[/red]", highlight=False)
        return 1
    wanted = [each for each in figures if not asked.only or each.name in asked.only]
    show(wanted, console)
    write(wanted, asked.output)
    console.print(f"written: {asked.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
