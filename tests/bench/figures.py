"""A measured figure, its goal and its limit; the table for eyes and the file for programs.

Owns the goals of the architecture's section 8. Must never judge: a figure below its goal is printed like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `build/bench.json`.

    Attributes:
        goal: from the architecture; None where it has none.
        limit: the machine's own limit for this line, measured in the same run.
        compared_with: what it stands beside, measured in the same run, or under which circumstances it was measured.
    """

    name: str
    value: float
    unit: str
    goal: str | None = None
    limit: str | None = None
    compared_with: str | None = None


GOALS: Final = {
    "ledger_append": ">= 50000",
    "payments_single": ">= 5000",
    "payments_batch": ">= 15000",
    "payment_latency_p50": "<= 3",
    "payment_latency_p99": "<= 15",
    "verify_log": ">= 200000",
    "proof_p99": "<= 2",
    "payment_p99_reading_tiles": "<= 10",
    "screening_p99": "<= 0.5",
    "card_payments": ">= 1000",
    "card_added_p99": "<= 25",
    "rss": "<= 250",
    "start_1e6": "<= 3",
    "disk_per_payment": "<= 2048",
    "calendar_10000": "<= 5",
    "with_100ms_hsm": ">= 1000",
    "with_100ms_hsm_latency_p50": "<= 150",
}


def figure(name: str, value: float, unit: str, *, limit: str | None = None, beside: str | None = None) -> Figure:
    """A figure with the goal of its name."""
    return Figure(name=name, value=round(value, 3), unit=unit, goal=GOALS.get(name), limit=limit, compared_with=beside)


def write(figures: Sequence[Figure], file: Path) -> None:
    """The figures as a JSON list."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def show(figures: Sequence[Figure], console: Console) -> None:
    """The figures as a table."""
    table = Table(title="Tillstone, measured", title_justify="left")
    for column in ("figure", "value", "unit", "goal", "limit of this machine", "beside it"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for each in figures:
        table.add_row(
            each.name, _readable(each.value), each.unit, each.goal or "", each.limit or "", each.compared_with or ""
        )
    console.print(table)


def _readable(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
