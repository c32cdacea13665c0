"""Puts log lines out from a thread of its own, so that a slow reader of our output never stops the event loop.

Bounded: when the reader is too slow, lines are dropped and counted, and the count is written once there is room.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, TextIO

LINES_MAX: Final = 10_000
_CLOSE_S: Final = 2.0


class LineWriter:
    """A sink for `Log`. `close` writes what waits; lines after it go out directly."""

    def __init__(self, stream: TextIO, *, lines_max: int = LINES_MAX) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._lines_max = lines_max
        self._dropped = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __call__(self, line: str) -> None:
        """Queue one line; never blocks for longer than the queue's lock and never raises."""
        with self._changed:
            if self._is_closing:
                self._put(line)
            elif len(self._lines) >= self._lines_max:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._changed.notify()

    def close(self) -> None:
        """Write what is queued, waiting at most 2 s for a reader that stands still."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._dropped or self._is_closing)
                text = "".join(self._lines)
                self._lines.clear()
                if self._dropped:
                    text += f'{{"level":"warning","event":"lines.dropped","count":{self._dropped}}}\n'
                    self._dropped = 0
                is_last = self._is_closing
            self._put(text)
            if is_last:
                return

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more (closed pipe, closed stream). The log helps people; it must not stop a sale.
            return
