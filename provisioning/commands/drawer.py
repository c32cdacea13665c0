"""`tillstone drawer`: what a cashier does to a till's drawer beside selling.

Owns the words on the screen. What the drawer holds is the box's to say.
"""

from __future__ import annotations

import argparse
from typing import Final

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.slip.paper_text import amount
from appliance.wire.answers import DrawerAnswer
from appliance.wire.requests import DrawerBody
from provisioning.commands.answer import add_till, ask_till, till_of
from provisioning.commands.outcome import DONE, print_json
from provisioning.commands.pay import minor_units
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient

_ACTS: Final = {
    "float": "put change into the drawer when the till opens",
    "paid-in": "put money in that no sale brought",
    "paid-out": "take money out that no refund needs: a bill paid, takings to the bank",
    "no-sale": "open the drawer and move nothing",
    "count": "say what is in it; the difference goes into the report",
}
_IN_DOUBT: Final = f"{PROGRAM} report x says what the log knows of the drawer; do it again only if it is not there"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`drawer float|paid-in|paid-out|count AMOUNT`, `drawer no-sale`, each with `[--reason] [--cashier] [--home]`."""
    parser = subparsers.add_parser("drawer", description="Record what is done to a till's drawer beside selling.")
    acts = parser.add_subparsers(metavar="ACT", required=True)
    for name, meaning in _ACTS.items():
        act = acts.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        if name != "no-sale":
            act.add_argument("amount", metavar="AMOUNT", help="in the shop's currency, such as 100.00")
        if name == "float":
            act.add_argument(
                "--drawer", metavar="NAME", help="the drawer that the till uses from now on; AMOUNT may be 0"
            )
        act.add_argument("--reason", default="", help="goes into the log, for ever; no names")
        act.add_argument("--cashier", help="who did it; kept erasable")
        add_till(act)
        act.set_defaults(run=run, act=name.replace("-", "_"), amount="0", drawer=None)


def run(arguments: argparse.Namespace) -> int:
    """Record it at the running sandbox, or at one that is opened for this alone."""

    async def act(client: TerminalClient, key: RequestKey, deadline: Deadline) -> DrawerAnswer:
        body = DrawerBody(
            act=arguments.act,
            amount_minor=_amount_minor(arguments, client.profile.currency),
            drawer=arguments.drawer,
            reason=arguments.reason,
            cashier=arguments.cashier,
        )
        return await client.drawer(body, key=key, deadline=deadline)

    with till_of(arguments) as home:
        answer = ask_till(home, act, when_in_doubt=_IN_DOUBT)
    if arguments.json:
        print_json(answer)
        return DONE
    held = amount(answer.held_minor, answer.currency)
    print(f"Recorded as entry {answer.seq}: drawer {answer.drawer} holds {held} {answer.currency}.")
    if answer.difference_minor is not None:
        difference = amount(answer.difference_minor, answer.currency)
        print(f"  The count differs by {difference} from what was expected.")
    return DONE


def _amount_minor(arguments: argparse.Namespace, currency: str) -> int:
    may_be_nothing = arguments.act in ("count", "no_sale") or arguments.drawer is not None
    return 0 if may_be_nothing and set(arguments.amount) <= {"0", "."} else minor_units(arguments.amount, currency)
