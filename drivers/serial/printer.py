"""A receipt printer with a drawer, on an open line.

Owns the order of question and answer. Must never take silence for an answer: every question waits for its byte.
"""

from __future__ import annotations

from drivers.serial import escpos
from drivers.serial.errors import LineUnreadable
from drivers.serial.escpos import Ask, PrinterStatus
from drivers.serial.line import Line


def ask_status(line: Line, deadline_s: float) -> PrinterStatus:
    """How the printer is, asked now. Raises LineSilent, LineUnreadable, LineAway."""
    line.forget_input()
    return escpos.read_status(*[_ask(line, what, deadline_s) for what in (Ask.PRINTER, Ask.OFFLINE_CAUSE, Ask.PAPER)])


def send(line: Line, data: bytes, deadline_s: float) -> None:
    """Send commands and wait until the printer has dealt with all of them.

    Raises:
        LineSilent, LineUnreadable, LineAway: nobody knows how much of it came to paper.
    """
    line.forget_input()
    line.write(data + escpos.STATUS_BEHIND_DATA, deadline_s)
    (answer,) = line.read(1, deadline_s)
    if not escpos.is_behind_data_answer(answer):
        raise LineUnreadable(f"no answer to GS r: 0x{answer:02x}")


def _ask(line: Line, what: Ask, deadline_s: float) -> int:
    line.write(escpos.status_request(what), deadline_s)
    return line.read(1, deadline_s)[0]
