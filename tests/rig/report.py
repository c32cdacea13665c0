"""What a run of the rig found: stages with their times, numbers beside their limits; for people and for programs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from appliance.model.errors import TillstoneError
from image.console import ConsoleSilent
from image.machine import MachineFailed
from image.tools import ToolFailed
from image.workshop import say
from tests.rig.box import BoxFailed

FORMAT: Final = "tillstone-rig/1"
_FAILURES: Final = (AssertionError, BoxFailed, ConsoleSilent, MachineFailed, OSError, TillstoneError, ToolFailed)
_WHY_CHARACTERS_MAX: Final = 600


class StageFailed(Exception):
    """A stage failed and is in the report; what builds on it makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Something that must hold. `why` is empty when it held."""

    name: str
    seconds: float
    found: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A measurement; `limit` None is one that nobody promised.

    Attributes:
        is_of_this_machine: a time, which says as much about the machine that emulates as about the box: it is shown
            beside its limit and fails nothing.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    is_of_this_machine: bool = False

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value < self.limit


@dataclass(kw_only=True)
class Report:
    """Filled by the story, stage by stage."""

    form: str
    accelerator: str
    stages: list[Stage] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    not_there: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def is_ok(self) -> bool:
        return not any(stage.why for stage in self.stages) and all(
            number.holds or number.is_of_this_machine for number in self.numbers
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time the block; what it puts into the list is what was found. Raises StageFailed."""
        say(f"{name} ...")
        began, found = time.monotonic(), list[str]()
        try:
            yield found
        except _FAILURES as failure:
            why = f"{type(failure).__name__}: {failure}"[:_WHY_CHARACTERS_MAX]
            self._keep(name, began, found, why)
            raise StageFailed(name) from failure
        self._keep(name, began, found, "")

    def number(
        self, name: str, value: float, unit: str, limit: float | None = None, *, of_machine: bool = False
    ) -> None:
        """Keep and tell a measurement."""
        made = Number(name=name, value=round(value, 1), unit=unit, limit=limit, is_of_this_machine=of_machine)
        self.numbers.append(made)
        say(f"  {name}: {_shown(made)}")

    def write(self, folder: Path) -> None:
        """`report.md` and `report.json`."""
        content = {
            "format": FORMAT,
            "is_ok": self.is_ok,
            "form": self.form,
            "machine": {"accelerator": self.accelerator, "processors": os.cpu_count(), "load": os.getloadavg()},
            "began": int(self.began),
            "seconds": round(time.time() - self.began, 1),
            "stages": [asdict(stage) | {"seconds": round(stage.seconds, 1)} for stage in self.stages],
            "numbers": [asdict(number) | {"holds": number.holds} for number in self.numbers],
            "not_there": self.not_there,
        }
        (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n")
        (folder / "report.md").write_text(self.page())

    def page(self) -> str:
        """One page."""
        minutes = (time.time() - self.began) / 60
        lines = [
            f"# The rig, {self.form} form: {'everything held' if self.is_ok else 'FAILED'}",
            "",
            f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(self.began))} UTC, {minutes:.1f} minutes, {os.cpu_count()}"
            f" processors ({self.accelerator}), load {os.getloadavg()[0]:.1f} at the end.",
            "",
            "| Stage | Seconds | Found |",
            "|---|---|---|",
        ]
        for stage in self.stages:
            found = f"**FAILED** {stage.why}" if stage.why else stage.found
            lines.append(f"| {stage.name} | {stage.seconds:.1f} | {_in_a_cell(found)} |")
        lines += ["", "| Number | Measured |", "|---|---|"]
        lines += [f"| {number.name} | {_shown(number)} |" for number in self.numbers]
        lines += ["", *(f"* {each}" for each in self.not_there)]
        return "\n".join(lines).rstrip() + "\n"

    def _keep(self, name: str, began: float, found: list[str], why: str) -> None:
        stage = Stage(name=name, seconds=time.monotonic() - began, found="; ".join(found), why=why)
        self.stages.append(stage)
        say(f"{name}: {f'FAILED {why}' if why else stage.found or 'held'} ({stage.seconds:.1f} s)")


def _shown(number: Number) -> str:
    if number.limit is None:
        return f"{number.value:g} {number.unit}"
    over = "" if number.holds else (", over (this machine)" if number.is_of_this_machine else ", **OVER**")
    return f"{number.value:g} {number.unit} of {number.limit:g}{over}"


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
