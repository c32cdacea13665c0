"""Owns how the architecture tests see the tree: its files, its parsed modules. Judges nothing itself."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PRODUCTION = ("appliance", "drivers", "image", "provisioning")
OURS = (*PRODUCTION, "tests")


@cache
def project_files() -> tuple[str, ...]:
    """Every file that is or may be committed, as paths from the root."""
    # The checkout may belong to another user than the one who tests it; git would refuse to list it.
    command = ["git", "-c", f"safe.directory={PROJECT}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    return tuple(sorted(name for name in set(listing.split("\0")) if name and (PROJECT / name).is_file()))


def python_files(*folders: str) -> list[str]:
    """The project's Python files below `folders`."""
    return [name for name in project_files() if name.endswith(".py") and name.split("/", 1)[0] in folders]


def text(name: str) -> str:
    """The file's text; empty for one that is not text."""
    try:
        return (PROJECT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name), filename=name)


def nodes(*folders: str) -> Iterator[tuple[str, ast.AST]]:
    """Every syntax node of every Python file below `folders`, with its file."""
    for name in python_files(*folders):
        for node in ast.walk(tree(name)):
            yield name, node


def listed(violations: list[str], rule: str) -> str:
    """A failure message that reads as a list of places to mend."""
    return f"{rule}\n  " + "\n  ".join(violations)
