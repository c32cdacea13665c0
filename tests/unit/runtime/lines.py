"""A log that keeps its lines, for tests of whatever logs."""

from __future__ import annotations

import json
from typing import Any

from appliance.runtime.log import Log
from tests.fakes.clock import FakeClock


class Lines:
    """Sink that remembers; `log` writes to it."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.text = ""
        self.log = Log(sink=self._keep, clock=clock or FakeClock())

    def _keep(self, line: str) -> None:
        self.text += line

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.parsed]
