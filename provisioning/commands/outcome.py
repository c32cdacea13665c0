"""What every command says the same way: exit codes, JSON for programs, and the error that names the next step."""

from __future__ import annotations

import argparse
from typing import Final

import msgspec

DONE: Final = 0
NO: Final = 1
"""The question was answered, and the answer is no: a receipt is false, a sale was declined, the box is unwell."""


class CannotDo(Exception):
    """The command could not do its work; exit code 2.

    Attributes:
        sentence: what is wrong.
        next_step: what to do about it.
    """

    def __init__(self, sentence: str, next_step: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun: 1 entry, 1,200 entries."""
    return f"{count:,} {one if count == 1 else many}"


def entries(count: int) -> str:
    return counted(count, "entry", "entries")


def add_json(parser: argparse._ActionsContainer) -> None:
    """`--json`: the same option everywhere, for `print_json`."""
    parser.add_argument("--json", action="store_true", help="for programs")


def print_json(value: object) -> None:
    """The answer of a command that was asked with `--json`: one value, indented, keys in the order they were put."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
