"""Builds the process's log from its settings: the sink, the level and the layout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from appliance.config.schema import Log as LogSettings
from appliance.ports.clock import Clock
from appliance.runtime.line_writer import LineWriter
from appliance.runtime.log import Level, Log, as_console, as_json


@contextmanager
def open_log(settings: LogSettings, *, clock: Clock, stream: TextIO | None = None) -> Iterator[Log]:
    """A log to `stream` (standard error by default); everything logged is out when the block ends."""
    out = stream if stream is not None else sys.stderr
    is_console = settings.format == "console" or (settings.format == "auto" and out.isatty())
    writer = LineWriter(out)
    try:
        layout = as_console if is_console else as_json
        yield Log(sink=writer, clock=clock, level=Level[settings.level.upper()], layout=layout)
    finally:
        writer.close()
