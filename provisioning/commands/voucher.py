"""`tillstone voucher`: issue a voucher at a till, see what is left of one, take one back.

Owns the words on the screen. The code is shown once, on purpose: whoever has it can spend the voucher.
"""

from __future__ import annotations

import argparse
import datetime
from typing import Final

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.slip.paper_text import amount
from appliance.wire.answers import VoucherAnswer
from appliance.wire.requests import VoucherBody
from provisioning.commands.answer import BUILD, add_till, ask_till, payment_key, till_of
from provisioning.commands.outcome import DONE, CannotDo, print_json
from provisioning.commands.pay import minor_units
from provisioning.kept_trust import keep_trust
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.durable import write_durably
from provisioning.verify.wording import time_text

_RECEIPT: Final = BUILD / "voucher.cbor"
_IN_DOUBT: Final = f"{PROGRAM} report x says what was issued; a voucher whose code nobody has is never spent"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`voucher issue AMOUNT (--sold-with KEY | --reason TEXT) [--until DATE]`, `voucher show|void CODE`."""
    parser = subparsers.add_parser("voucher", description="Issue a voucher, see what is left of it, take it back.")
    acts = parser.add_subparsers(metavar="ACTION", required=True)
    issued = "issue a voucher; its code is shown, its receipt kept"
    issue = acts.add_parser("issue", help=issued, description=f"{issued[0].upper()}{issued[1:]}.")
    issue.add_argument("amount", metavar="AMOUNT", help="in the shop's currency, such as 50.00")
    paid = issue.add_mutually_exclusive_group(required=True)
    paid.add_argument("--sold-with", metavar="KEY", help="the key of the approved sale that paid for it")
    paid.add_argument("--reason", default="", help="why it is given; goes into the log, for ever; no names")
    issue.add_argument("--until", metavar="DATE", help="the last day it is good for, as 2029-12-31 (default: for ever)")
    issue.set_defaults(act="issue", code=None)
    for name, meaning in (("show", "see what is left of a voucher"), ("void", "take an untouched voucher back")):
        act = acts.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        act.add_argument("code", metavar="CODE", help="as it was shown when the voucher was issued")
        act.set_defaults(act=name, amount=None, sold_with=None, until=None, reason="")
    for act in acts.choices.values():
        act.add_argument("--cashier", help="who did it; kept erasable")
        add_till(act)
        act.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the running sandbox, or one that is opened for this alone."""
    of = None if arguments.sold_with is None else str(payment_key(arguments.sold_with))
    expires_ms = None if arguments.until is None else _end_ms(arguments.until)

    async def act(client: TerminalClient, key: RequestKey, deadline: Deadline) -> VoucherAnswer:
        body = VoucherBody(
            act=arguments.act,
            amount_minor=0 if arguments.amount is None else minor_units(arguments.amount, client.profile.currency),
            of=of,
            code=arguments.code,
            reason=arguments.reason,
            expires_ms=expires_ms,
            cashier=arguments.cashier,
        )
        return await client.voucher(body, key=key, deadline=deadline)

    with till_of(arguments) as home:
        answer = ask_till(home, act, when_in_doubt=_IN_DOUBT)
        if answer.receipt is not None:
            BUILD.mkdir(exist_ok=True)
            keep_trust(BUILD / "trust.json", home.trust())
            write_durably(_RECEIPT, answer.receipt)
    if arguments.json:
        print_json(answer)
    else:
        _show(answer)
    return DONE


def _show(answer: VoucherAnswer) -> None:
    left, whole = (amount(minor, answer.currency) for minor in (answer.left_minor, answer.amount_minor))
    if answer.code is not None:
        print(f"\n    {answer.code}\n\nWhoever has this code can spend the voucher; it is in no log.")
    print(f"Voucher {answer.voucher[:16]}: {answer.state}, {left} of {whole} {answer.currency} left.")
    if answer.expires_ms is not None:
        print(f"  Good until {time_text(answer.expires_ms)}.")
    if answer.receipt is not None:
        print(f"  Signed by the box as entry {answer.seq}:")
        print(f"    {PROGRAM} verify receipt {_RECEIPT} --trust {BUILD / 'trust.json'}")


def _end_ms(text: str) -> int:
    """The end of that day, UTC. Raises CannotDo."""
    try:
        day = datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError as cause:
        raise CannotDo(f"{text!r} is no day", "--until 2029-12-31") from cause
    return int((day + datetime.timedelta(days=1)).timestamp() * 1000)
