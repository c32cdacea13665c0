"""A printer in memory, with the same switches as the twin."""

from __future__ import annotations

import asyncio

from appliance.ports.printer import PRINTS, Page, Printed, PrinterState, PrintResult


class FakePrinter:
    """Satisfies `ports/printer.py`.

    Attributes:
        results: of every question to print, for tests that wait for one.
        how: the state that it is in. loses_answers: pages are printed, and nobody hears of it.
    """

    def __init__(self) -> None:
        self.how = PrinterState.READY
        self.loses_answers = False
        self.pages: list[Page] = []
        self.kicks = 0
        self.kicked = asyncio.Event()
        self.results: asyncio.Queue[PrintResult] = asyncio.Queue()

    async def state(self) -> PrinterState:
        """As the switch says."""
        return self.how

    async def print(self, page: Page) -> PrintResult:
        """Keep the page."""
        if self.how not in PRINTS:
            result = PrintResult(printed=Printed.NOT_BEGUN, state=self.how)
        else:
            self.pages.append(page)
            result = self._result()
        self.results.put_nowait(result)
        return result

    async def open_drawer(self) -> PrintResult:
        """Count the kick."""
        if self.how in (PrinterState.SILENT, PrinterState.UNREADABLE):
            return PrintResult(printed=Printed.NOT_BEGUN, state=self.how)
        self.kicks += 1
        self.kicked.set()
        return self._result() if self.how in PRINTS else PrintResult(printed=Printed.UNCERTAIN, state=self.how)

    async def close(self) -> None:
        """Nothing to let go."""

    def _result(self) -> PrintResult:
        return PrintResult(printed=Printed.UNCERTAIN if self.loses_answers else Printed.DONE, state=self.how)
