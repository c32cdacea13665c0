"""Lets libraries that use the standard `logging` module speak through our log, without their words.

A library may put a key or a request body into a message, so only the logger's name, the place and the kind of an
attached error are passed on. Warnings and errors only.
"""

from __future__ import annotations

import logging
from typing import Final

from typing_extensions import override

from appliance.runtime.log import Log

_ABOUT_STRANGERS: Final = frozenset({"aiohttp.server"})
"""Loggers that report what anybody may send to a door: nobody must act, so it is never a warning or an error."""


class LogBridge(logging.Handler):
    """Handler for the root logger."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    @override
    def emit(self, record: logging.LogRecord) -> None:
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        if record.name in _ABOUT_STRANGERS:
            write = self._log.info
        place = f"{record.filename}:{record.lineno}"
        error = record.exc_info[1] if record.exc_info else None
        write("library.logged", library=record.name, place=place, error=error)


def bridge(log: Log) -> None:
    """Send everything of `logging` to `log`, and nowhere else."""
    root = logging.getLogger()
    root.handlers[:] = [LogBridge(log)]
    root.setLevel(logging.WARNING)
