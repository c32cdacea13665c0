"""`tillstone reconcile`: the shop's money beside each provider's statement. Exit code 0 only when nothing is open.

Owns the words on the screen. What differs, and whose it is, is the box's (`appliance/payment/reconcile.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from appliance.model.errors import TillstoneError
from appliance.till.page import report_text
from appliance.till.statement_sheet import advice, break_words, converted_words, sheet_of_statement
from appliance.wire.answers import ComparedAnswer, ReconcileAnswer
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, counted, print_json
from provisioning.commands.status import box_of
from provisioning.local_door import LocalDoor
from provisioning.reports.output import SCREEN_WIDTH, add_output, require_ending, write_report


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`reconcile [--provider P] [--day D] [-o FILE] [--accept TYPE SUBJECT --reason TEXT] [--dir DIR] [--json]`."""
    parser = subparsers.add_parser(
        "reconcile",
        description="Compare money with each provider's own list, day by day. Looking twice is safe."
        " Exit code 1 while anything is open.",
    )
    parser.add_argument("--provider", metavar="NAME", help="only this one, such as stripe or paypal (default: all)")
    parser.add_argument(
        "--day",
        metavar="DATE",
        help="a shop day, such as 2026-11-26 (default: the newest that was compared; before that, the first)",
    )
    add_output(parser)
    parser.add_argument("--accept", nargs=2, metavar=("TYPE", "SUBJECT"), help="close a break for good, with --reason")
    parser.add_argument("--reason", metavar="TEXT", help="why it may be closed; stands in the log")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Accept where asked; look, show, and write where asked."""
    require_ending(arguments.output)
    if arguments.accept is not None and not arguments.reason:
        raise CannotDo(
            "--accept closes a break for good, and nobody said why", "add --reason TEXT; it stands in the log"
        )
    box = box_of(arguments)
    providers = _providers(arguments, box)
    if arguments.accept is not None:
        kind, subject = arguments.accept
        seq = box.accept_break(kind, subject, arguments.reason, arguments.provider)
        if not arguments.json:
            print(f"Accepted: {kind} {subject}, as entry {seq}.\n")
    failures: list[TillstoneError] = []
    answers = []
    for answer in _answers(box, arguments.day, providers, failures):
        answers.append(answer)
        _show(answer, arguments, shop=str(box.status()["shop"]))
    is_idle = arguments.day is None and arguments.output is None
    if not (answers or is_idle) or any(each.code != "day_unknown" for each in failures):
        raise failures[0]
    if not answers:
        _show_idle(box.compared(), arguments)
    return NO if any(each.open_count for each in answers) else DONE


def _providers(arguments: argparse.Namespace, box: LocalDoor) -> tuple[str | None, ...]:
    """Whom to ask about, one after the other; None is whoever there is."""
    if arguments.provider is not None:
        return (arguments.provider,)
    compared = box.compared().compared
    if arguments.output is not None and len(compared) > 1:
        raise CannotDo("a report is about one provider", f"name one with --provider: {' or '.join(compared)}")
    return compared or (None,)


def _answers(
    box: LocalDoor, day: str | None, providers: tuple[str | None, ...], failures: list[TillstoneError]
) -> Iterator[ReconcileAnswer]:
    """What each provider's day comes to; one that cannot be read hides no other."""
    for provider in providers:
        try:
            answer = box.reconcile(day, provider)
        except TillstoneError as failure:
            failures.append(failure)
        else:
            yield answer


def _show(answer: ReconcileAnswer, arguments: argparse.Namespace, *, shop: str) -> None:
    sheet = sheet_of_statement(answer)
    if arguments.output is not None:
        write_report(sheet, arguments.output, shop=shop)
    if arguments.json:
        print_json(answer)
        return
    print(report_text(sheet, width=SCREEN_WIDTH, heading=shop))
    explain(answer)
    if arguments.output is not None:
        print(f"Kept: {arguments.output}")


def _show_idle(compared: ComparedAnswer, arguments: argparse.Namespace) -> None:
    """No provider that can be compared moved anything yet."""
    if arguments.json:
        print_json(compared)
        return
    asked = (arguments.provider,) if arguments.provider else compared.compared
    print(f"Nothing to compare: {', '.join(asked)} never confirmed a payment.")
    _say_not_compared(compared.not_compared)


def _say_not_compared(providers: tuple[str, ...]) -> None:
    if providers:
        names = ", ".join(providers)
        print(
            f"Not compared: {names}. This box cannot read such a statement yet; the tenders of close-day have the sum."
        )


def explain(answer: ReconcileAnswer) -> None:
    """What is open, what to do about it, and what nobody looked at."""
    if not answer.open_count:
        print("Nothing is open.")
    if answer.on_its_way:
        moves = counted(answer.on_its_way, "movement is", "movements are")
        print(f"{moves} on the way: the list of this day is not final, and money of minutes ago need not be on it yet.")
    converted = converted_words(answer.day)
    if converted is not None:
        print(converted)
    _say_not_compared(answer.not_compared)
    for facts in answer.breaks:
        print(f"* {break_words(facts, answer.day.day)}\n  {advice(facts)}")
    if answer.open_count:
        print(f"\n{counted(answer.open_count, 'break is', 'breaks are')} open.")
    if answer.open_count and answer.seq is not None:
        print("To close one that is explained: tillstone reconcile --accept TYPE SUBJECT --reason TEXT")
