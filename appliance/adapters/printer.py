"""A receipt printer behind its owner thread, as the core sees it.

- Opens the line for each question and lets it go: network printers serve one caller at a time, and a printer that was
  switched off and on again is found by the next question.
- A page is sent to a printer that has just said that it can print, and to no other.
- The drawer opens without paper too: a printer that stopped takes the pulse as a real-time command, which nobody
  confirms.
- Whatever goes wrong is a state of the printer, never an exception: no sale waits for paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import segno

from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.ports.printer import PRINTS, Code, Page, Printed, PrinterState, PrintResult, Row, Weight
from drivers.serial import escpos
from drivers.serial.errors import LineError, LineUnreadable
from drivers.serial.escpos import PrinterStatus
from drivers.serial.line import Line
from drivers.serial.printer import ask_status, send

QUEUE_DEPTH_MAX: Final = 8
_BORDER_MODULES: Final = 4  # ISO/IEC 18004: the quiet zone
_MODULE_DOTS_MIN: Final = 2
_MODULE_DOTS_MAX: Final = 6
_NOBODY_THERE: Final = frozenset({PrinterState.SILENT, PrinterState.UNREADABLE})
_TOO_FINE: Final = "(The code does not fit this paper.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterSettings:
    """How to reach it, and what paper it has; `dots` is the width that can be printed on."""

    address: str
    baud: int
    code_page: str
    dots: int
    drawer_pin: int
    answer_s: float
    print_s: float


class EscPosPrinter:
    """Satisfies `ports/printer.py` for a printer that speaks ESC/POS."""

    def __init__(self, settings: PrinterSettings) -> None:
        self._settings = settings
        self._thread = OwnerThread(
            kind=SessionKind(
                name="printer",
                open=lambda: settings,
                close=lambda _: None,
                translate=lambda _: None,
                is_fatal=lambda _: False,
            ),
            queue_depth_max=QUEUE_DEPTH_MAX,
        )
        # Opening may wait for the network as long as one answer; three answers, then the page, then three again.
        self._state_ms = int(settings.answer_s * 5_000)
        self._print_ms = int(settings.print_s * 2_000) + 2 * self._state_ms

    async def state(self) -> PrinterState:
        """Ask now."""
        try:
            return await self._thread.run(_state, self._state_ms)
        except (Unavailable, OutcomeUnknown):
            return PrinterState.SILENT

    async def print(self, page: Page) -> PrintResult:
        """Print and cut, unless its state forbids it."""
        # Encoded there too: a QR code takes a tenth of a second, which the loop does not have.
        return await self._run(lambda settings: _print(settings, _encode(page, settings)))

    async def open_drawer(self) -> PrintResult:
        """Kick the drawer open."""
        return await self._run(_kick)

    async def close(self) -> None:
        """End the owner thread."""
        await self._thread.close()

    async def _run(self, call: Callable[[PrinterSettings], PrintResult]) -> PrintResult:
        try:
            return await self._thread.run(call, self._print_ms)
        except Unavailable:
            return PrintResult(printed=Printed.NOT_BEGUN, state=PrinterState.SILENT)
        except OutcomeUnknown:
            return PrintResult(printed=Printed.UNCERTAIN, state=PrinterState.SILENT)


def _state(settings: PrinterSettings) -> PrinterState:
    """On the owner thread."""
    try:
        with Line(settings.address, settings.baud) as line:
            return _read(ask_status(line, settings.answer_s))
    except LineUnreadable:
        return PrinterState.UNREADABLE
    except LineError:
        return PrinterState.SILENT


def _kick(settings: PrinterSettings) -> PrintResult:
    """On the owner thread."""
    found = _print(settings, escpos.drawer_kick(settings.drawer_pin))
    if found.printed is not Printed.NOT_BEGUN or found.state in _NOBODY_THERE:
        return found
    try:
        with Line(settings.address, settings.baud) as line:
            line.write(escpos.drawer_kick_now(settings.drawer_pin), settings.answer_s)
    except LineError:
        return PrintResult(printed=Printed.UNCERTAIN, state=_state(settings))
    return PrintResult(printed=Printed.UNCERTAIN, state=found.state)


def _print(settings: PrinterSettings, data: bytes) -> PrintResult:
    """On the owner thread."""
    state = _state(settings)
    if state not in PRINTS:
        return PrintResult(printed=Printed.NOT_BEGUN, state=state)
    try:
        line = Line(settings.address, settings.baud)
    except LineError:
        return PrintResult(printed=Printed.NOT_BEGUN, state=PrinterState.SILENT)
    try:
        with line:
            send(line, data, settings.print_s)
    except LineError:
        return PrintResult(printed=Printed.UNCERTAIN, state=_state(settings))
    return PrintResult(printed=Printed.DONE, state=state)


def _read(status: PrinterStatus) -> PrinterState:
    if status.is_cover_open:
        return PrinterState.COVER_OPEN
    if status.is_paper_out:
        return PrinterState.PAPER_OUT
    if status.is_offline or status.has_error:
        return PrinterState.OFFLINE
    return PrinterState.PAPER_LOW if status.is_paper_low else PrinterState.READY


def _encode(page: Page, settings: PrinterSettings) -> bytes:
    parts = [escpos.begin(settings.code_page)]
    for part in page:
        if isinstance(part, Row):
            is_tall = part.weight is Weight.TALL
            is_bold = is_tall or part.weight is Weight.BOLD
            parts.append(escpos.row(part.text, settings.code_page, is_bold=is_bold, is_tall=is_tall))
        else:
            parts.append(_encode_code(part, settings))
    return b"".join([*parts, escpos.CUT])


def _encode_code(code: Code, settings: PrinterSettings) -> bytes:
    modules, _ = segno.make_qr(code.content, error="L", boost_error=False).symbol_size(border=_BORDER_MODULES)
    dots = min(settings.dots // int(modules), _MODULE_DOTS_MAX)
    if dots < _MODULE_DOTS_MIN:
        return escpos.row(_TOO_FINE, settings.code_page)
    return escpos.qr_code(code.content.encode(), dots)
