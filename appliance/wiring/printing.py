"""Builds the printer of a box, where one is set up: adapter, queue, services, and what health says of it."""

from __future__ import annotations

from typing import Final

from appliance.adapters.printer import EscPosPrinter, PrinterSettings
from appliance.config.paper import Printer as Settings
from appliance.device.health import Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.ports.clock import Clock
from appliance.ports.printer import PrinterState
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.slip.printing import Printing
from appliance.slip.reader import SlipReader

_SAID: Final[dict[PrinterState, tuple[str, str]]] = {
    PrinterState.SILENT: ("The receipt printer does not answer", "Check its power and its cable."),
    PrinterState.UNREADABLE: (
        "What answers at the receipt printer's address is no printer, or has another speed",
        "Check printer.address and printer.baud in the settings.",
    ),
    PrinterState.COVER_OPEN: ("The receipt printer's cover is open", "Close it."),
    PrinterState.PAPER_OUT: ("The receipt printer is out of paper", "Put in a new roll."),
    PrinterState.OFFLINE: ("The receipt printer says that it cannot print", "Look at its lamps; switch it off and on."),
    PrinterState.PAPER_LOW: ("The receipt printer's paper ends soon", "Have a new roll ready."),
}


class BoxPrinter:
    """The printer and its queue."""

    def __init__(
        self, settings: Settings, *, reader: SlipReader, ledger: Ledger, clock: Clock, metrics: Metrics, log: Log
    ) -> None:
        self._printer = EscPosPrinter(
            PrinterSettings(
                address=settings.address,
                baud=settings.baud,
                code_page=settings.code_page,
                dots=settings.dots,
                drawer_pin=settings.drawer_pin,
                answer_s=settings.answer_ms / 1_000,
                print_s=settings.print_ms / 1_000,
            )
        )
        self.printing = Printing(
            printer=self._printer,
            reader=reader,
            ledger=ledger,
            clock=clock,
            metrics=metrics,
            log=log,
            columns=settings.columns,
            prints_each_sale=settings.prints == "each_sale",
            opens_drawer=settings.opens_drawer,
            terminals=settings.terminals,
        )

    def begin(self, supervisor: Supervisor) -> None:
        """Start the services; none of them is essential."""
        supervisor.start("printing", self.printing.work, restart=Restart.ON_CRASH)
        supervisor.start("drawer", self.printing.open_drawers, restart=Restart.ON_CRASH)
        supervisor.start("slips", self.printing.follow, restart=Restart.ON_CRASH)
        supervisor.start("printer watch", self.printing.watch, restart=Restart.ON_CRASH)

    async def end(self) -> None:
        """Let the device go."""
        await self._printer.close()

    def check(self) -> Finding:
        """How it was found last; nothing about it stops a sale."""
        return printer_finding(self.printing.state)


def printer_finding(state: PrinterState | None) -> Finding:
    """In plain words."""
    if state is None or state is PrinterState.READY:
        sentence = (
            "The receipt printer has not been looked at yet." if state is None else "The receipt printer is ready."
        )
        return Finding(check="printer", level=Level.OK, sentence=sentence)
    what, next_step = _SAID[state]
    return Finding(check="printer", level=Level.COPING, sentence=f"{what}; sales go on.", next_step=next_step)
