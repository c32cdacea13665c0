"""`tillstone reverse KEY`: see to it that a payment does not stand, whatever became of it.

Owns nothing but the question. Asking twice is safe. Exit code 1 while money of the payment is kept or held.
"""

from __future__ import annotations

import argparse
from typing import Final

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from provisioning.commands.answer import BUILD, add_till, ask, payment_key, show, till_of
from provisioning.commands.outcome import DONE, NO
from provisioning.terminal.client import TerminalClient

_IN_DOUBT: Final = "the same command again: a payment is reversed once, however often it is asked"
_UNDECIDED: Final = ("approved", "authorised", "accepted_offline", "being_checked", "partly_refunded")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`reverse KEY [--reason] [--home] [--dir] [--json]`."""
    parser = subparsers.add_parser(
        "reverse", description="A payment must not stand: what was taken goes back, what is held is given up."
    )
    parser.add_argument("key", metavar="KEY", help="of the payment, as `tillstone pay` prints it")
    parser.add_argument("--reason", default="", help="goes into the log, for ever; no names")
    add_till(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Reverse at the running sandbox, or at one that is opened for this alone."""
    of = payment_key(arguments.key)

    async def reverse(client: TerminalClient, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        return await client.reversal(of, key=key, reason=arguments.reason, deadline=deadline)

    with till_of(arguments) as home:
        answered = ask(home, reverse, receipt_file=BUILD / "reversal.cbor", when_in_doubt=_IN_DOUBT)
    show(answered, arguments)
    return NO if answered.answer.state in _UNDECIDED else DONE
