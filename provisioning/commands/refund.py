"""`tillstone refund KEY`: give all of an approved payment back, and keep the receipt of that.

Owns nothing but the question. Asking twice is safe: the box gives a payment's money back once. Exit code 1 while the
money is not back.
"""

from __future__ import annotations

import argparse
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from provisioning.commands.answer import BUILD, add_till, ask, show, till_of
from provisioning.commands.outcome import DONE, NO, CannotDo
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient

_IN_DOUBT: Final = "the same command again: the box gives the money of a payment back once, however often it is asked"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`refund KEY [--reason] [--home] [--dir] [--json]`."""
    parser = subparsers.add_parser(
        "refund", description="Give all of an approved payment back: cash from the drawer, a card through its provider."
    )
    parser.add_argument("key", metavar="KEY", help="of the payment, as `tillstone pay` prints it")
    parser.add_argument("--reason", default="", help="goes into the log, for ever; no names")
    add_till(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Refund at the running sandbox, or at one that is opened for this alone."""
    try:
        of = request_key(arguments.key.strip().lower())
    except Rejected as refusal:
        raise CannotDo(
            f"{arguments.key!r} is no payment's key, such as 01a0c450-6c00-7000-8000-000000000001 ({refusal.code})",
            f"{PROGRAM} pay prints the key of a sale",
        ) from refusal

    async def refund(client: TerminalClient, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        return await client.refund(of, key=key, reason=arguments.reason, deadline=deadline)

    with till_of(arguments) as home:
        answered = ask(home, refund, receipt_file=BUILD / "refund.cbor", when_in_doubt=_IN_DOUBT)
    show(answered, arguments)
    return DONE if answered.answer.state == "refunded" else NO
