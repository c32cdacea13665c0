"""The verdict on a receipt or a log: the steps that were taken, in order, and where they ended.

Owns the shape and its two faces, for eyes and for programs. Must never show text of strangers unescaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TextIO

import msgspec

SENTENCES_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Steps up to the first that failed; `not_reached` names the rest.

    Attributes:
        code: stable name of the fault; None when all is well.
        hint: what the fault usually means, for people.
        entries: what the proven entries say, for programs; empty unless all is well.
        sentences: the same for people.
        facts: further members for programs.
        verdict: what is said of it when all is well.
        absent: parts that are not there, with the reason; nothing was proven by them.
        caveats: the name of a part that is right, and what must be known before it is leant on.
    """

    steps: tuple[Step, ...]
    code: str | None = None
    hint: str = ""
    not_reached: tuple[str, ...] = ()
    entries: tuple[dict[str, object], ...] = ()
    sentences: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    verdict: str = "is genuine"
    absent: dict[str, str] = field(default_factory=dict)
    caveats: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything was checked and right."""
        return self.code is None


def to_json(report: Report) -> str:
    """One JSON object: ok, code, steps, entries, and the facts."""
    steps = [{"name": step.name, "ok": step.ok, "detail": step.detail} for step in report.steps]
    value = {"ok": report.ok, "code": report.code, "steps": steps, "entries": list(report.entries), **report.facts}
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def show(report: Report, title: str, stream: TextIO | None = None) -> None:
    """A short list for eyes, the verdict last: laid out for a terminal, one whole line per step for anything else."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(file=stream, highlight=False)
    if console.is_terminal:
        grid = Table.grid(padding=(0, 1))
        for mark, text in _lines(report, escape):
            grid.add_row(mark, text)
        console.print(grid)
    else:
        for mark, text in _lines(report, escape):
            console.print(mark, text, soft_wrap=True)
    for line in _verdict(report, title, escape):
        console.print(line, soft_wrap=not console.is_terminal)


def _lines(report: Report, escape: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Each line as its mark and its text, in the markup of rich."""
    for step in report.steps:
        yield "[green]✓[/]" if step.ok else "[red]✗[/]", f"[bold]{escape(step.name)}[/]: {escape(step.detail)}"
    for name in report.not_reached:
        yield "[dim]–[/]", f"[dim]{escape(name)}: not reached[/]"
    for name, reason in report.absent.items():
        yield "[yellow]○[/]", f"[bold]{escape(name)}[/]: [yellow]missing[/], {escape(reason)}"
    for name, caveat in report.caveats:
        yield "[yellow]![/]", f"[bold]{escape(name)}[/]: [yellow]{escape(caveat)}[/]"
    for sentence in report.sentences[:SENTENCES_SHOWN_MAX]:
        yield "[bold]→[/]", escape(sentence)
    if len(report.sentences) > SENTENCES_SHOWN_MAX:
        yield "[bold]→[/]", f"and {len(report.sentences) - SENTENCES_SHOWN_MAX} more; --json lists them all"


def _verdict(report: Report, title: str, escape: Callable[[str], str]) -> Iterator[str]:
    if report.ok:
        yield f"[bold green]{escape(title)} {escape(report.verdict)}.[/]"
        return
    yield f"[bold red]{escape(title)} cannot be believed[/] ({escape(report.code or '')})."
    if report.hint:
        yield escape(report.hint)
