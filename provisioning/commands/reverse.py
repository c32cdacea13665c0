"""`tillstone reverse KEY`: see to it that a payment does not stand, whatever became of it.

Owns nothing but the question. Asking twice is safe. Exit code 1 while money of the payment is kept or held.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from appliance.model.errors import TillstoneError
from appliance.model.ids import RequestKey, request_key
from appliance.model.money import Money
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from provisioning.commands.answer import BUILD, add_till, ask, payment_key, show, till_of
from provisioning.commands.outcome import DONE, NO
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.home import TerminalHome

if TYPE_CHECKING:
    from appliance.slip.slip import GivenBack

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
    parts: list[PaymentAnswer] = []

    async def reverse(client: TerminalClient, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        answer = await client.reversal(of, key=key, reason=arguments.reason, deadline=deadline)
        if answer.sale is not None and answer.sale.key == str(of):
            # The sale is given up by then: what its parts say more is a help, and must not hide that.
            with suppress(TillstoneError):
                for part in answer.sale.parts:
                    parts.append(await client.status(request_key(part.key), deadline=deadline))
        return answer

    with till_of(arguments) as home:
        answered = ask(home, reverse, receipt_file=BUILD / "reversal.cbor", when_in_doubt=_IN_DOUBT)
    show(answered, arguments)
    if not arguments.json:
        _show_given_back(parts or [answered.answer], answered.home)
    return NO if answered.answer.state in _UNDECIDED else DONE


def _show_given_back(answers: list[PaymentAnswer], home: TerminalHome) -> None:
    """What each payment gave back, by its receipt; the cash of it is for the till to hand out."""
    found = [(answer, back) for answer in answers if (back := _given_back(answer, home)) is not None]
    if not found:
        return
    currency = found[0][0].currency
    if len(answers) > 1:
        print("Given back, part by part:\n")
        for answer, back in found:
            print(f"    {answer.key}  {Money(_worth_minor(back), currency)}")
        print()
    cash_minor = sum(back.cash_minor for _, back in found)
    total_minor = sum(_worth_minor(back) for _, back in found)
    cash = f" {Money(cash_minor, currency)} of it is cash: the till hands it out, once." if cash_minor else ""
    print(f"{Money(total_minor, currency)} went back in all.{cash}\n")


def _worth_minor(back: GivenBack) -> int:
    return back.cash_minor + back.card_minor + back.stated_minor + back.voucher_minor


def _given_back(answer: PaymentAnswer, home: TerminalHome) -> GivenBack | None:
    """Of a reversed payment with a receipt; None of any other. The modules are heavy, and only this way needs them."""
    from appliance.ledger.receipt import verify_receipt
    from appliance.ledger.trust import load_trust
    from appliance.slip.slip import read_slip

    if answer.receipt is None or answer.state != "reversed":
        return None
    return read_slip(verify_receipt(answer.receipt, load_trust(home.trust()).keys).entries).given_back
