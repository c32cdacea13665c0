"""`tillstone close-day`: ends the shop's day and shows its report; `--dry-run` shows what it came to so far.

Owns the words on the screen. What a day is, and that it is closed once, is the box's (`appliance/till/days.py`).
"""

from __future__ import annotations

import argparse

from appliance.till.page import report_text
from appliance.till.sheet import sheet_of_day
from appliance.till.statement_sheet import with_statement
from appliance.wire.answers import DayAnswer
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.reports.output import SCREEN_WIDTH, add_output, require_ending, write_report


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`close-day [--dry-run] [-o FILE] [--print] [--dir DIR] [--json]`."""
    parser = subparsers.add_parser(
        "close-day",
        description="End the shop's day: one signed entry with a report that adds up. Closing twice is safe.",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what the day came to so far, and close nothing")
    add_output(parser)
    parser.add_argument("--print", action="store_true", help="also on the box's receipt printer")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Close, or look; then show, and write where asked."""
    require_ending(arguments.output)
    box = box_of(arguments)
    columns = box.printer_columns() if arguments.print else 0  # a missing printer is told before anything is closed
    answer = box.day() if arguments.dry_run else box.close_day()
    sheet = with_statement(sheet_of_day(answer.day, seq=answer.seq), answer)
    shop = str(box.status()["shop"])
    if arguments.output is not None:
        write_report(sheet, arguments.output, shop=shop)
    if columns:
        box.print_lines(report_text(sheet, width=columns, heading=shop).splitlines())
    if arguments.json:
        print_json(answer)
        return DONE
    print(report_text(sheet, width=SCREEN_WIDTH, heading=shop))
    print(_meaning(answer))
    if arguments.output is not None:
        print(f"Kept: {arguments.output}")
    return DONE


def _meaning(answer: DayAnswer) -> str:
    if answer.seq is None:
        return "The day is open; nothing was written."
    if answer.is_new:
        return f"The day {answer.day.day} is closed, as entry {answer.seq}. What is sold from now on is the next day's."
    return f"Nothing to close: the day {answer.day.day} was closed before, as entry {answer.seq}."
