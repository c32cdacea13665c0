"""A provider's statement in memory; the contract suite holds it to what the real one does."""

from __future__ import annotations

from appliance.model.errors import Unavailable
from appliance.ports.statement import LINES_PER_PAGE_MAX, Line, Page, PageMark, Window


class FakeStatement:
    """Satisfies `ports/statement.py`.

    Attributes:
        lines: everything that was ever booked.
        fails_after: that many pages are still read, then none; None: all are.
        asked: the windows, one for each page.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.fails_after: int | None = None
        self.asked: list[Window] = []
        self.settle_ms = 600_000

    async def page(self, window: Window, after: PageMark | None) -> Page:
        self.asked.append(window)
        if self.fails_after is not None:
            if self.fails_after == 0:
                raise Unavailable("statement_unread", "the switch says so")
            self.fails_after -= 1
        found = [line for line in self.lines if window.begins_ms <= line.created_ms < window.ends_ms]
        found.sort(key=lambda line: (line.created_ms, line.line_id), reverse=True)
        start = 0 if after is None else [str(line.line_id) for line in found].index(after) + 1
        part = found[start : start + LINES_PER_PAGE_MAX]
        has_more = len(found) > start + LINES_PER_PAGE_MAX
        return Page(lines=tuple(part), following=PageMark(part[-1].line_id) if has_more else None)

    async def close(self) -> None:
        """Nothing to release."""
