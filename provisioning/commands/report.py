"""`tillstone report x|z`: what a till's drawer, or the till, came to; z ends the period. The shop's is `close-day`."""

from __future__ import annotations

import argparse
from typing import Final

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.till.page import report_text
from appliance.till.sheet import sheet_of_period
from appliance.wire.answers import ReportAnswer
from appliance.wire.requests import ReportBody
from provisioning.commands.answer import add_till, ask_till, till_of
from provisioning.commands.outcome import DONE, print_json
from provisioning.reports.output import SCREEN_WIDTH, add_output, require_ending, write_report
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient

_IN_DOUBT: Final = f"{PROGRAM} report x says by its number whether the period was closed"
_LETTERS: Final = {"x": "show what the period came to so far", "z": "the same, and end the period"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`report x|z [--scope drawer|terminal] [-o FILE] [--cashier] [--home] [--dir] [--json]`."""
    parser = subparsers.add_parser("report", description="X or Z of a till's drawer, or of the till itself.")
    letters = parser.add_subparsers(metavar="LETTER", required=True)
    for letter, meaning in _LETTERS.items():
        kind = letters.add_parser(letter, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        kind.add_argument("--scope", choices=("drawer", "terminal"), default="drawer", help="(default: %(default)s)")
        kind.add_argument("--cashier", help="who asked; kept erasable")
        add_output(kind)
        add_till(kind)
        kind.set_defaults(run=run, letter=letter)


def run(arguments: argparse.Namespace) -> int:
    """Ask at the running sandbox, or at one that is opened for this alone."""
    require_ending(arguments.output)

    async def report(client: TerminalClient, key: RequestKey, deadline: Deadline) -> ReportAnswer:
        body = ReportBody(kind=arguments.letter, scope=arguments.scope, cashier=arguments.cashier)
        return await client.report(body, key=key, deadline=deadline)

    with till_of(arguments) as home:
        answer = ask_till(home, report, when_in_doubt=_IN_DOUBT)
    sheet = sheet_of_period(answer.period, seq=answer.seq)
    if arguments.output is not None:
        write_report(sheet, arguments.output, shop="")
    if arguments.json:
        print_json(answer)
        return DONE
    print(report_text(sheet, width=SCREEN_WIDTH))
    if arguments.output is not None:
        print(f"Kept: {arguments.output}")
    return DONE
