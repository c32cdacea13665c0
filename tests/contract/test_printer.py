"""One promise list for the fake and for the driver on a pseudo-terminal and on TCP: paper is never claimed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from appliance.adapters.printer import EscPosPrinter, PrinterSettings
from appliance.ports.printer import Code, Page, Printed, Printer, PrinterState, PrintResult, Row, Weight
from provisioning.sandbox.printer_twin import PrinterTwin, on_tcp, on_terminal
from tests.fakes.printer import FakePrinter

PAGE: Page = (Row("Corner Shop", Weight.TALL), Row("Käse  3.20"), Code("https://a.example/#1.AAAA"))
ROWS = ["Corner Shop", "Käse  3.20", "[QR https://a.example/#1.AAAA]", "--- cut ---"]
# A busy machine answers late; only the tests of silence are in a hurry.
LONG_S, SHORT_S = 60.0, 0.5


class Rig(Protocol):
    """A printer and the hands to hurt it."""

    printer: Printer

    def make(self, state: PrinterState) -> None: ...
    def lose_answers(self) -> None: ...
    def rows(self) -> list[str]: ...
    def kicks(self) -> int: ...
    async def settled(self) -> None: ...
    async def close(self) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self.fake = FakePrinter()
        self.printer: Printer = self.fake

    def make(self, state: PrinterState) -> None:
        self.fake.how = state

    def lose_answers(self) -> None:
        self.fake.loses_answers = True

    def rows(self) -> list[str]:
        parts = [part for page in self.fake.pages for part in (*page, Row("--- cut ---"))]
        return [part.text if isinstance(part, Row) else f"[QR {part.content}]" for part in parts]

    def kicks(self) -> int:
        return self.fake.kicks

    async def settled(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        await self.printer.close()


class TwinRig:
    def __init__(self, kind: str, dots: int = 576) -> None:
        self.twin = PrinterTwin()
        self._served = ExitStack()
        self._dots = dots
        self._address = self._served.enter_context((on_terminal if kind == "pty" else on_tcp)(self.twin.take))
        self._printers: list[Printer] = []
        self._wait(LONG_S)

    def _wait(self, deadline_s: float) -> None:
        self.printer: Printer = EscPosPrinter(settings(self._address, dots=self._dots, deadline_s=deadline_s))
        self._printers.append(self.printer)

    def make(self, state: PrinterState) -> None:
        match state:
            case PrinterState.SILENT:
                self.twin.is_silent = True
                self._wait(SHORT_S)
            case PrinterState.UNREADABLE:
                self.twin.says = b"\xff"
            case PrinterState.COVER_OPEN:
                self.twin.is_cover_open = True
            case PrinterState.PAPER_OUT:
                self.twin.paper_rows_left = 0
            case PrinterState.OFFLINE:
                self.twin.is_offline = True
            case PrinterState.PAPER_LOW:
                self.twin.is_paper_low = True
            case PrinterState.READY:
                self.twin.is_silent = False
                self._wait(LONG_S)

    def lose_answers(self) -> None:
        self._wait(SHORT_S)
        self.twin.paper_rows_left = len(ROWS) - 1  # the paper ends before the cut: nobody answers behind the page

    def rows(self) -> list[str]:
        return self.twin.rows

    def kicks(self) -> int:
        return len(self.twin.drawer_kicks)

    async def settled(self) -> None:
        """Answers come in the order of the questions: what was sent before this one has been taken."""
        await self.printer.state()

    async def close(self) -> None:
        for printer in self._printers:
            await printer.close()
        await asyncio.to_thread(self._served.close)


def settings(address: str, *, dots: int = 576, deadline_s: float) -> PrinterSettings:
    return PrinterSettings(
        address=address,
        baud=38_400,
        code_page="cp858",
        dots=dots,
        drawer_pin=2,
        answer_s=deadline_s,
        print_s=deadline_s,
    )


@pytest.fixture(params=["fake", "pty", "tcp"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made: Rig = FakeRig() if request.param == "fake" else TwinRig(request.param)
    yield made
    await made.close()


async def test_page_comes_to_paper_in_order(rig: Rig) -> None:
    assert await rig.printer.print(PAGE) == PrintResult(printed=Printed.DONE, state=PrinterState.READY)
    assert rig.rows() == ROWS


@pytest.mark.parametrize("state", list(PrinterState))
async def test_printer_is_what_it_says_and_nothing_better(rig: Rig, state: PrinterState) -> None:
    rig.make(state)
    assert await rig.printer.state() is state


@pytest.mark.parametrize("state", sorted(set(PrinterState) - {PrinterState.READY, PrinterState.PAPER_LOW}))
async def test_nothing_is_sent_to_a_printer_that_cannot_print(rig: Rig, state: PrinterState) -> None:
    rig.make(state)
    assert await rig.printer.print(PAGE) == PrintResult(printed=Printed.NOT_BEGUN, state=state)
    assert rig.rows() == []


@pytest.mark.parametrize("state", [PrinterState.COVER_OPEN, PrinterState.PAPER_OUT, PrinterState.OFFLINE])
async def test_drawer_opens_without_paper_and_nobody_confirms_it(rig: Rig, state: PrinterState) -> None:
    rig.make(state)
    assert await rig.printer.open_drawer() == PrintResult(printed=Printed.UNCERTAIN, state=state)
    await rig.settled()
    assert (rig.rows(), rig.kicks()) == ([], 1)


@pytest.mark.parametrize("state", [PrinterState.SILENT, PrinterState.UNREADABLE])
async def test_drawer_of_a_printer_that_is_not_there_stays_shut(rig: Rig, state: PrinterState) -> None:
    rig.make(state)
    assert await rig.printer.open_drawer() == PrintResult(printed=Printed.NOT_BEGUN, state=state)
    assert rig.kicks() == 0


async def test_low_paper_prints_and_is_told(rig: Rig) -> None:
    rig.make(PrinterState.PAPER_LOW)
    assert await rig.printer.print(PAGE) == PrintResult(printed=Printed.DONE, state=PrinterState.PAPER_LOW)


async def test_page_without_an_answer_behind_it_is_uncertain(rig: Rig) -> None:
    rig.lose_answers()
    assert (await rig.printer.print(PAGE)).printed is Printed.UNCERTAIN


async def test_drawer_is_kicked_once(rig: Rig) -> None:
    assert (await rig.printer.open_drawer()).printed is Printed.DONE
    assert (rig.kicks(), rig.rows()) == (1, [])


async def test_printer_that_came_back_prints_again(rig: Rig) -> None:
    rig.make(PrinterState.SILENT)
    assert (await rig.printer.print(PAGE)).state is PrinterState.SILENT
    rig.make(PrinterState.READY)
    assert (await rig.printer.print(PAGE)).printed is Printed.DONE
    assert rig.rows() == ROWS


@pytest.mark.parametrize("address", ["/dev/no-such-printer", "socket://127.0.0.1:9", "spy:///dev/null"])
async def test_printer_that_is_not_there_is_silent(address: str) -> None:
    printer = EscPosPrinter(settings(address, deadline_s=LONG_S))
    assert await printer.state() is PrinterState.SILENT
    assert await printer.print(PAGE) == PrintResult(printed=Printed.NOT_BEGUN, state=PrinterState.SILENT)
    await printer.close()


async def test_slow_printer_is_waited_for() -> None:
    rig = TwinRig("tcp")
    answers = threading.Semaphore(0)

    def wait() -> None:
        answers.acquire()

    rig.twin.waits = wait
    asking = asyncio.ensure_future(rig.printer.state())
    for _ in range(3):
        answers.release()
    assert await asking is PrinterState.READY
    await rig.close()


async def test_code_that_is_wider_than_the_paper_is_said_and_not_sent() -> None:
    rig = TwinRig("pty", dots=200)
    await rig.printer.print((Code("https://a.example/#1." + "A" * 2_300),))
    assert rig.twin.rows == ["(The code does not fit this paper.)", "--- cut ---"]
    await rig.close()


async def test_text_of_a_till_reaches_the_printer_as_text() -> None:
    rig = TwinRig("pty")
    await rig.printer.print((Row("Beer\x1bp\x00\x19\x19\x10\x04\x01"),))
    assert rig.twin.rows == ["Beer?p??????", "--- cut ---"]
    assert (rig.twin.drawer_kicks, rig.twin.unknown) == ([], [])
    await rig.close()
