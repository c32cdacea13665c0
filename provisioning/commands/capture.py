"""`tillstone capture KEY`: take money that a card's bank holds since `tillstone pay --card --later`.

Owns nothing but the question. Asking twice is safe: what is held is taken once. Exit code 1 while it is not taken.
"""

from __future__ import annotations

import argparse
from typing import Final

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from provisioning.commands.answer import BUILD, add_till, ask, payment_key, show, till_of
from provisioning.commands.outcome import DONE, NO
from provisioning.commands.pay import minor_units
from provisioning.terminal.client import TerminalClient

_IN_DOUBT: Final = "the same command again: what is held is taken once, however often it is asked"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`capture KEY [--amount] [--home] [--dir] [--json]`."""
    parser = subparsers.add_parser(
        "capture", description="Take money that a card's bank holds, all of it or the total and a tip."
    )
    parser.add_argument("key", metavar="KEY", help="of the payment, as `tillstone pay` prints it")
    parser.add_argument("--amount", help="total and tip, in the shop's currency (default: all that is held)")
    add_till(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Capture at the running sandbox, or at one that is opened for this alone."""
    of = payment_key(arguments.key)

    async def capture(client: TerminalClient, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        amount = None if arguments.amount is None else minor_units(arguments.amount, client.profile.currency)
        return await client.capture(of, key=key, amount_minor=amount, deadline=deadline)

    with till_of(arguments) as home:
        answered = ask(home, capture, receipt_file=BUILD / "capture.cbor", when_in_doubt=_IN_DOUBT)
    show(answered, arguments)
    return DONE if answered.answer.state == "approved" else NO
