"""`tillstone refund KEY`: give a payment back, all that is left of it or a part, and keep the receipt of that.

Owns the words for a part: an amount, or lines of the sale. The box never gives back more than what is left. Exit code 1
while the money is not back.
"""

from __future__ import annotations

import argparse
from decimal import Decimal
from typing import Final

import msgspec

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import RefundLine
from provisioning.commands.answer import BUILD, add_till, ask, payment_key, show, till_of
from provisioning.commands.outcome import DONE, NO
from provisioning.commands.pay import minor_units
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient

_IN_DOUBT: Final = f"look before you ask again: {PROGRAM} ledger history KEY shows what was given back"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`refund KEY [--amount | --line]... [--reason] [--home] [--dir] [--json]`."""
    parser = subparsers.add_parser(
        "refund",
        description="Give a payment back, all that is left or a part: a card through its provider, the rest in cash.",
    )
    parser.add_argument("key", metavar="KEY", help="of the payment, as `tillstone pay` prints it")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--amount", help="in the shop's currency (default: all that is left)")
    part.add_argument(
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

    async def refund(client: TerminalClient, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        currency = client.profile.currency
        return await client.refund(
            of,
            key=key,
            reason=arguments.reason,
            amount_minor=None if arguments.amount is None else minor_units(arguments.amount, currency),
            lines=tuple(arguments.lines),
            deadline=deadline,
        )

    with till_of(arguments) as home:
        answered = ask(home, refund, receipt_file=BUILD / "refund.cbor", when_in_doubt=_IN_DOUBT)
    show(answered, arguments)
    return DONE if answered.answer.given_minor else NO


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
