"""`tillstone update`: has the box start another image, or tells how the newest update stands. Owns the words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.verify.wording import printable, time_text

_STATUS: Final = "status"
_MEANS: Final = {
    "none": "never updated",
    "staged": "the update to {version} is being installed; the machine starts again by itself",
    "trying": "{version} runs on trial; it is confirmed once the boot loader knows it good",
    "confirmed": "the update to {version} is confirmed",
    "fell_back": "the update to {version} did not come up, {running} goes on: {detail} ({code})",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`update FILE`, `update status`."""
    parser = subparsers.add_parser("update", description="Have the box start another image.")
    parser.add_argument(
        "file", metavar="FILE", help="tillstone-VERSION.update, signed by the owner; or the word status: how it went"
    )
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Hand the file over, or ask. Exit code 1: the newest update fell back."""
    box = box_of(arguments)
    if arguments.file == _STATUS:
        return _tell(arguments, box.update())
    try:
        staged = box.stage_update(Path(arguments.file))
    except OSError as cause:
        raise CannotDo(f"{arguments.file} cannot be read: {cause.strerror}", "check the name of the file") from cause
    if arguments.json:
        print_json(staged)
    else:
        print(
            f"{printable(staged['version'])}, release number {staged['number']}, is installed beside the running image."
        )
        print("The machine starts again by itself; tillstone update status tells how it went.")
    return DONE


def _tell(arguments: argparse.Namespace, known: dict[str, Any]) -> int:
    if arguments.json:
        print_json(known)
    else:
        said = {name: printable(str(value)) for name, value in known.items()}
        print(f"{said['running']} on {said['model']}; releases up to number {said['floor']} are refused")
        since = f", since {time_text(known['since_ms'])}" if known["since_ms"] else ""
        print(f"  {_MEANS[known['state']].format(**said)}{since}")
    return NO if known["state"] == "fell_back" else DONE
