"""`tillstone status`: the box's health checks in plain words, or as JSON. Exit code 1 when it does not sell.

Owns the wording of the table. The checks themselves are the box's (`appliance/device/health.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from appliance.model.errors import Unavailable
from provisioning.commands.folder import add_box, log_folder
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json
from provisioning.local_door import LocalDoor
from provisioning.sandbox.layout import SandboxFolder

_MARKS: Final = {"ok": "[green]✓[/]", "coping": "[yellow]![/]", "stopped": "[red]✗[/]"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`status [--json] [--dir]`."""
    parser = subparsers.add_parser("status", description="Say how the box is; exit code 1 when it does not sell.")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def box_of(arguments: argparse.Namespace) -> LocalDoor:
    """The local door of the box in `--dir`. Raises CannotDo when there is no such box."""
    return LocalDoor(log_folder(arguments.dir))


def run(arguments: argparse.Namespace) -> int:
    """Ask and print."""
    try:
        health = box_of(arguments).status()
    except Unavailable as cause:
        raise CannotDo(f"the box is not running: {cause.detail}", _next(arguments.dir)) from cause
    if arguments.json:
        print_json(health)
    else:
        show(health)
    return NO if health["level"] == "stopped" else DONE


def _next(path: Path) -> str:
    folder = SandboxFolder.at(path)
    if (folder.path / "run.lock").is_file() and folder.is_running():
        return f"its sandbox runs and keeps starting it: read {folder.appliance_log}"
    return "start it: tillstone sandbox"


def show(health: dict[str, Any]) -> None:
    """The findings, worst words first in the headline."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{_MARKS[health['level']]} [bold]{escape(health['sentence'])}[/]")
    table = Table.grid(padding=(0, 1))  # a sentence that is too long for its line goes on below itself
    table.add_column(width=3, justify="right")
    table.add_column(no_wrap=True, min_width=14)
    table.add_column(overflow="fold")
    for finding in health["findings"]:
        table.add_row(_MARKS[finding["level"]], escape(finding["check"]), escape(finding["sentence"]))
        if finding["next"]:
            table.add_row("", "", f"next: {escape(finding['next'])}")
    console.print(table)
