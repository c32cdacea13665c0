"""`tillstone status`: the box's health checks in plain words, or as JSON. Exit code 1 when it does not sell.

Owns the wording of the table. The checks themselves are the box's (`appliance/device/health.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.model.errors import Unavailable
from provisioning.commands.outcome import DONE, NO, CannotDo
from provisioning.local_door import LocalDoor
from provisioning.sandbox.layout import FOLDER_DEFAULT, SandboxFolder

_MARKS: Final = {"ok": "[green]✓[/]", "coping": "[yellow]![/]", "stopped": "[red]✗[/]"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`status [--json] [--dir | --data]`."""
    parser = subparsers.add_parser("status", description="Say how the box is; exit code 1 when it does not sell.")
    add_box(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def add_box(parser: argparse.ArgumentParser) -> None:
    """Which box: that of a sandbox, or any by the folder of its log."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--dir", type=Path, default=FOLDER_DEFAULT, help="a sandbox's folder (default: %(default)s)")
    which.add_argument("--data", type=Path, help="the folder storage.path of a box, instead of a sandbox")


def box_of(arguments: argparse.Namespace) -> LocalDoor:
    """The local door that `add_box` let the caller choose. Raises CannotDo when there is no such box."""
    data: Path = arguments.data or SandboxFolder.at(arguments.dir).data
    if not data.is_dir():
        raise CannotDo(f"there is no box in {data}", "start one: tillstone sandbox; or name its folder with --data")
    return LocalDoor(data)


def run(arguments: argparse.Namespace) -> int:
    """Ask and print."""
    try:
        health = box_of(arguments).status()
    except Unavailable as cause:
        raise CannotDo(f"the box is not running: {cause.detail}", "start it: tillstone sandbox") from cause
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(health), indent=2).decode())
    else:
        show(health)
    return NO if health["level"] == "stopped" else DONE


def show(health: dict[str, Any]) -> None:
    """The findings, worst words first in the headline."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(f"{_MARKS[health['level']]} [bold]{escape(health['sentence'])}[/]")
    for finding in health["findings"]:
        console.print(f"  {_MARKS[finding['level']]} {finding['check']:<14} {escape(finding['sentence'])}")
        if finding["next"]:
            console.print(f"    {'':<14} next: {escape(finding['next'])}")
