"""A receipt printer and the drawer on its cable, in our own words.

Owns what a page is and how a printer can be. Must never know bytes of a device: `drivers/serial` does.

* A printer that says nothing is `SILENT`. Nothing but an answer makes it `READY`.
* `print` says what became of the paper; it raises nothing for a printer that is away, because no sale waits for paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias


class Weight(StrEnum):
    """How a row looks; each takes the same number of columns."""

    PLAIN = "plain"
    BOLD = "bold"
    TALL = "tall"  # bold and double height


@dataclass(frozen=True, slots=True)
class Row:
    """One row of text, already laid out for the paper's columns."""

    text: str
    weight: Weight = Weight.PLAIN


@dataclass(frozen=True, slots=True)
class Code:
    """A QR code."""

    content: str


Page: TypeAlias = tuple[Row | Code, ...]
"""What is printed in one go, with a cut behind it."""


def page_of(lines: Sequence[str]) -> Page:
    """Plain lines, such as those of a day's report."""
    return tuple([Row(line) for line in lines])


class PrinterState(StrEnum):
    """How the printer is; the first that applies, worst first."""

    SILENT = "silent"  # no answer within the deadline: switched off, unplugged, or another device
    UNREADABLE = "unreadable"  # it answers something that no printer says: wrong speed, or another device
    COVER_OPEN = "cover_open"
    PAPER_OUT = "paper_out"
    OFFLINE = "offline"  # it says so itself: an error, or somebody feeds paper
    PAPER_LOW = "paper_low"  # prints, and will soon not
    READY = "ready"


PRINTS = frozenset({PrinterState.READY, PrinterState.PAPER_LOW})
"""The states in which a page is sent."""


class Printed(StrEnum):
    """What became of a page."""

    DONE = "done"  # the printer answered behind its last line
    NOT_BEGUN = "not_begun"  # nothing was sent
    UNCERTAIN = "uncertain"  # sent, in whole or in part; nobody answered


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintResult:
    """What became of a page, and how the printer was found."""

    printed: Printed
    state: PrinterState


class Printer(Protocol):
    """One printer with a drawer on it."""

    async def state(self) -> PrinterState:
        """Ask now."""
        ...

    async def print(self, page: Page) -> PrintResult:
        """Print and cut, unless its state forbids it."""
        ...

    async def open_drawer(self) -> PrintResult:
        """Kick the drawer open, with or without paper; whether it opened, no printer can tell."""
        ...

    async def close(self) -> None:
        """Let the device go."""
        ...
