"""`tillstone refund KEY`: give a payment back, all that is left of it or a part, and keep the receipt of that.

Owns the words for a part: an amount, or lines of the sale. The box never gives back more than what is left. Exit code 1
while the money is not back.
"""

from __future__ import annotations

import argparse
import time
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.wire.requests import RefundLine
from provisioning.commands.answer import BUILD, add_till, ask_till, keep, payment_key, show, till_of
from provisioning.commands.outcome import DONE, NO, CannotDo, print_json
from provisioning.commands.pay import minor_units
from provisioning.commands.refund_parts import Given, Refunding
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient

_IN_DOUBT: Final = f"look before you ask again: {PROGRAM} ledger history KEY shows what was given back"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`refund KEY [--part] [--amount] [--line]... [--reason] [--home] [--dir] [--json]`."""
    parser = subparsers.add_parser(
        "refund",
        description="Give a payment back, all that is left or a part: a card through its provider, the rest in cash."
        " Of a sale paid in parts (its first key) each part gives back what it took, the newest first.",
    )
    parser.add_argument("key", metavar="KEY", help="of the payment, as `tillstone pay` prints it")
    parser.add_argument("--part", metavar="KEY", help="the part of a sale that gives back; with --line also --amount")
    parser.add_argument("--amount", help="in the shop's currency (default: all that is left)")
    parser.add_argument(
        "--line",
        dest="lines",
        action="append",
        type=returned_line,
        default=[],
        metavar="INDEX:QUANTITY",
        help="so much of a line of the sale, counted from 0, as in 0:1.5; may be given several times",
    )
    parser.add_argument("--reason", default="", help="goes into the log, for ever; no names")
    add_till(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Refund at the running sandbox, or at one that is opened for this alone."""
    of = payment_key(arguments.key)
    part = None if arguments.part is None else payment_key(arguments.part)
    began = time.monotonic()

    async def refund(client: TerminalClient, key: RequestKey, deadline: Deadline) -> Given:
        currency = client.profile.currency
        amount_minor = None if arguments.amount is None else minor_units(arguments.amount, currency)
        asked = Refunding(client=client, reason=arguments.reason, lines=tuple(arguments.lines), deadline=deadline)
        sale = (await client.status(of, deadline=deadline)).sale
        if part is not None or sale is None or sale.key != str(of):
            return Given(answers=(await asked(of if part is None else part, amount_minor, key),))
        return await asked.of_sale(sale, amount_minor, key)

    with till_of(arguments) as home:
        given = ask_till(home, refund, when_in_doubt=_IN_DOUBT)
        took_ms = (time.monotonic() - began) * 1000
        answered = [
            keep(home, answer, receipt_file=_receipt_file(at), took_ms=took_ms)
            for at, answer in enumerate(given.answers)
        ]
    if arguments.json and len(answered) > 1:
        print_json([each.answer for each in answered])
    else:
        for each in answered:
            show(each, arguments)
    if given.ended_by is not None:
        raise CannotDo(f"the other parts gave nothing back yet: {given.ended_by}", f"look first: {PROGRAM} refund KEY")
    return DONE if all(each.answer.given_minor for each in answered) else NO


def _receipt_file(at: int) -> Path:
    return BUILD / (f"refund-{at + 1}.cbor" if at else "refund.cbor")


def returned_line(text: str) -> RefundLine:
    """0:1.5 as so much of a line. Raises argparse.ArgumentTypeError."""
    index, _, quantity = text.partition(":")
    try:
        thousandths = Decimal(quantity).scaleb(3)
        line = {"index": int(index), "quantity_thousandths": int(thousandths)}
        if thousandths != line["quantity_thousandths"]:
            raise argparse.ArgumentTypeError(f"{quantity} has more than three digits behind the point")
        return msgspec.convert(line, RefundLine)
    except (ValueError, ArithmeticError) as fault:
        raise argparse.ArgumentTypeError(f"{text!r} is not so much of a line, as in 0:1.5") from fault
