"""How the box is, in plain words: one small check per thing that can be wrong, each with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from appliance.model.device_state import DeviceState


class Level(StrEnum):
    """What a check found: nothing, something that we cope with, or something that stops sales."""

    OK = "ok"
    COPING = "coping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's answer: a sentence for people, and what to do next when there is something to do."""

    check: str
    level: Level
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All findings, and the state that the log says; the box sells unless a finding stops it."""

    findings: tuple[Finding, ...]
    state: DeviceState

    @property
    def level(self) -> Level:
        """The worst finding's level."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in (Level.STOPPED, Level.COPING) if level in levels), Level.OK)

    @property
    def sentence(self) -> str:
        """The status line: are we selling, and is anything wrong?"""
        worst = [finding.sentence for finding in self.findings if finding.level is not Level.OK]
        head = "Not selling." if self.level is Level.STOPPED else "Selling."
        return " ".join([head, *worst])


Check = Callable[[], Finding]


def examine(checks: Sequence[Check], state: DeviceState) -> Health:
    """Run every check; each reads state that is already there and never waits."""
    return Health(findings=tuple(check() for check in checks), state=state)
