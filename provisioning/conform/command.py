"""`tillstone conform`: score a client of the terminal protocol, for eyes or as JSON.

Owns the words around the run. The exit code is 0 for a full score, 1 for anything less, 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from appliance.model.errors import Rejected
from appliance.runtime.clock import SystemClock
from provisioning.conform.identity import BoxIdentity, make_identity
from provisioning.conform.run import PLACEHOLDERS, Conformance, Score
from provisioning.conform.sales import BASE_SIZE
from provisioning.conform.scenarios import Scenario, all_scenarios

OWN_CLIENT: Final = (
    f"{sys.executable} -m provisioning.terminal.sale_command"
    " --home {home} --amount-minor {amount_minor} --deadline-ms {deadline_ms}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options, for whoever builds the command line."""
    parser.add_argument(
        "--command",
        default=OWN_CLIENT,
        help='starts the client for one sale; it prints a line such as {"result": "approved"}. '
        f"Placeholders in braces: {', '.join(PLACEHOLDERS)}. Without it the client of this package is scored.".replace(
            "%", "%%"
        ),
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="run only this scenario; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with command line words; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tillstone conform", description="Score a client of the terminal protocol.")
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Run with parsed options; returns the exit code."""
    console = Console()
    try:
        scenarios = _chosen(options.only)
        with tempfile.TemporaryDirectory(prefix="tillstone-conform-") as folder:
            progress = None if options.json else console
            scores = asyncio.run(score(options.command, scenarios, folder=Path(folder), console=progress))
    except Rejected as refusal:
        Console(stderr=True).print(f"{refusal.code}: {refusal.detail}", markup=False)
        return 2
    if options.json:
        print(json.dumps(as_json(scores), indent=2))
    else:
        _print_table(console, scores)
    return 0 if all(each.is_full for each in scores) else 1


async def score(
    command: str,
    scenarios: tuple[Scenario, ...],
    *,
    folder: Path,
    console: Console | None = None,
    identity: BoxIdentity | None = None,
) -> list[Score]:
    """Run `scenarios` against the client that `command` starts; everything made for it lies in `folder`."""
    clock = SystemClock()
    if identity is None:
        identity = await asyncio.to_thread(make_identity, clock.now_ms())
    scores: list[Score] = []
    conformance = Conformance(command=command, identity=identity, folder=folder, clock=clock)
    async for each in conformance.run(scenarios):
        scores.append(each)
        if console is not None:
            mark = "full" if each.is_full else "lost"
            console.print(f"{mark} {each.points}/{len(each.checks)}  {each.scenario.name}", markup=False)
    return scores


def as_json(scores: Sequence[Score]) -> dict[str, object]:
    """The scores as builtins: totals, and each scenario with its checks."""
    return {
        "points": sum(each.points for each in scores),
        "points_max": sum(len(each.checks) for each in scores),
        "scenarios": [
            {
                "name": each.scenario.name,
                "area": each.scenario.area,
                "expected": each.scenario.expected,
                "result": each.result,
                "points": each.points,
                "checks": [{"check": sentence, "held": held} for sentence, held in each.checks],
            }
            for each in scores
        ],
    }


def _chosen(names: Sequence[str] | None) -> tuple[Scenario, ...]:
    scenarios = all_scenarios(BASE_SIZE)
    unknown = set(names or ()) - {scenario.name for scenario in scenarios}
    if unknown:
        known = ", ".join(scenario.name for scenario in scenarios)
        raise Rejected("scenario_unknown", f"no scenario {', '.join(sorted(unknown))}; there are {known}")
    return tuple(scenario for scenario in scenarios if not names or scenario.name in names)


def _print_table(console: Console, scores: Sequence[Score]) -> None:
    table = Table("area", "scenario", "expected", "said", "points", "lost")
    for each in scores:
        lost = "; ".join(sentence for sentence, held in each.checks if not held)
        table.add_row(
            each.scenario.area,
            each.scenario.story,
            each.scenario.expected,
            each.result,
            f"{each.points}/{len(each.checks)}",
            lost,
            style=None if each.is_full else "bold red",
        )
    console.print(table)
    points, points_max = sum(each.points for each in scores), sum(len(each.checks) for each in scores)
    console.print(f"{points} of {points_max} points")


if __name__ == "__main__":
    sys.exit(main())
