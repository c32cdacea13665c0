"""`--dir`: which sandbox or which box a command is about; the same option everywhere.

Owns the option and the way from a folder to the log in it. Must never make a folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from provisioning.commands.outcome import CannotDo
from provisioning.sandbox.layout import FOLDER_DEFAULT, SandboxFolder


def add_sandbox(parser: argparse.ArgumentParser, *, default: Path = FOLDER_DEFAULT) -> None:
    """`--dir` of a command that needs a whole sandbox."""
    _add(parser, default, "the sandbox's folder")


def add_box(parser: argparse._ActionsContainer) -> None:
    """`--dir` of a command that needs a box only."""
    _add(parser, FOLDER_DEFAULT, "a sandbox's folder, or the folder of any box's log (storage.path)")


def log_folder(path: Path) -> Path:
    """The folder of the log in `path`, which is a sandbox's or the log's own. Raises CannotDo when there is none."""
    found = next((folder for folder in (SandboxFolder.at(path).data, path) if (folder / "ledger.db").is_file()), None)
    if found is None:
        raise CannotDo(f"there is no box in {path}", "start one: tillstone sandbox; or name its folder with --dir")
    return found


def _add(parser: argparse._ActionsContainer, default: Path, meaning: str) -> None:
    parser.add_argument("--dir", type=Path, metavar="DIR", default=default, help=f"{meaning} (default: %(default)s)")
