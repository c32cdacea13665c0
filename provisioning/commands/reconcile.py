"""`tillstone reconcile`: the shop's card money beside the provider's statement. Exit code 0 only when nothing is open.

Owns the words on the screen. What differs, and whose it is, is the box's (`appliance/payment/reconcile.py`).
"""

from __future__ import annotations

import argparse

from appliance.till.page import report_text
from appliance.till.statement_sheet import advice, break_words, sheet_of_statement
from appliance.wire.answers import ReconcileAnswer
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, NO, add_json, counted, print_json
from provisioning.commands.status import box_of
from provisioning.reports.output import SCREEN_WIDTH, add_output, require_ending, write_report


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`reconcile [--day D] [-o FILE] [--accept TYPE SUBJECT --reason TEXT] [--dir DIR] [--json]`."""
    parser = subparsers.add_parser(
        "reconcile",
        description="Compare card money with the provider's own list, day by day. Looking twice is safe."
        " Exit code 1 while anything is open.",
    )
    parser.add_argument("--day", metavar="DATE", help="a shop day, such as 2026-11-26 (default: the last that ended)")
    add_output(parser)
    parser.add_argument("--accept", nargs=2, metavar=("TYPE", "SUBJECT"), help="close a break for good, with --reason")
    parser.add_argument("--reason", metavar="TEXT", help="why it may be closed; stands in the log")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Accept where asked; look, show, and write where asked."""
    require_ending(arguments.output)
    box = box_of(arguments)
    if arguments.accept is not None:
        kind, subject = arguments.accept
        seq = box.accept_break(kind, subject, arguments.reason or "")
        if not arguments.json:
            print(f"Accepted: {kind} {subject}, as entry {seq}.\n")
    answer = box.reconcile(arguments.day)
    sheet = sheet_of_statement(answer)
    shop = str(box.status()["shop"])
    if arguments.output is not None:
        write_report(sheet, arguments.output, shop=shop)
    if arguments.json:
        print_json(answer)
    else:
        print(report_text(sheet, width=SCREEN_WIDTH, heading=shop))
        explain(answer)
        if arguments.output is not None:
            print(f"Kept: {arguments.output}")
    return NO if answer.open_count else DONE


def explain(answer: ReconcileAnswer) -> None:
    """What is open, what to do about it, and what nobody looked at."""
    if not answer.open_count:
        print("Nothing is open.")
    if answer.not_compared:
        names = ", ".join(answer.not_compared)
        print(
            f"Not compared: {names}. This box cannot read such a statement yet; the tenders of close-day have the sum."
        )
    for facts in answer.breaks:
        print(f"* {break_words(facts, answer.day.day)}\n  {advice(facts)}")
    if answer.open_count:
        print(f"\n{counted(answer.open_count, 'break is', 'breaks are')} open.")
        print("To close one that is explained: tillstone reconcile --accept TYPE SUBJECT --reason TEXT")
