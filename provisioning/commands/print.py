"""`tillstone print FILE`: a text on the box's receipt printer, such as a day's report.

Owns reading the text. Its rows must fit the paper: the printer breaks what is wider.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.status import box_of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`print FILE [--dir] [--json]`."""
    parser = subparsers.add_parser("print", description="Print a text on the box's receipt printer.")
    parser.add_argument("file", type=Path, metavar="FILE", help="the text; - is what comes through a pipe")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Queue it."""
    try:
        text = sys.stdin.read() if str(arguments.file) == "-" else arguments.file.read_text()
    except (OSError, UnicodeDecodeError) as cause:
        raise CannotDo(f"{arguments.file} cannot be read as text: {cause}", "check the name of the file") from cause
    answer = box_of(arguments).print_lines(text.splitlines())
    if arguments.json:
        print_json(answer)
    else:
        print(f"It waits for the printer, which is {(answer['printer'] or 'not looked at yet').replace('_', ' ')}.")
    return DONE
