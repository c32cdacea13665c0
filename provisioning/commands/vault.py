"""`tillstone vault`: hand a provider's token in, list what is kept by name, begin a new data key, forget a token.

Owns the words on the screen. Must never print a token, nor take one as an argument: those stand in lists of processes
and in the shell's memory.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterator
from typing import Any, Final

from appliance.model.ids import RequestKey
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import TokenAnswer
from appliance.wire.requests import TokenBody
from provisioning.commands.answer import add_till, ask_till, till_of
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.local_door import LocalDoor
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient
from provisioning.verify.wording import time_text

_PAGE: Final = 1_000
_IN_DOUBT: Final = f"{PROGRAM} vault list says what is kept; forget what nobody asked for, and hand the token in again"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`vault keep --for PURPOSE`, `vault list`, `vault rotate`, `vault forget NAME --reason TEXT`."""
    parser = subparsers.add_parser("vault", description="Keep providers' reusable tokens, list and forget them.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    keeping = actions.add_parser("keep", help="hand a token in, from standard input or a prompt, and get its name")
    keeping.add_argument(
        "--for", dest="purposes", choices=("sale", "hold"), action="append", required=True, help="may be given twice"
    )
    keeping.add_argument("--customer", help="whose it is: erasing the customer erases it; kept erasable")
    keeping.add_argument("--cashier", help="who did it; kept erasable")
    add_till(keeping)
    keeping.set_defaults(run=keep)
    listing = actions.add_parser("list", help="names, purposes, and under which data key how many lie")
    listing.set_defaults(run=list_all)
    rotating = actions.add_parser("rotate", help="seal everything under a new data key, while the box sells")
    rotating.set_defaults(run=rotate)
    forgetting = actions.add_parser("forget", help="no payment is made with it any more, and it is removed")
    forgetting.add_argument("name", metavar="NAME", help="as `vault list` shows it")
    forgetting.add_argument("--reason", required=True, help="goes into the log, for ever; no names")
    forgetting.set_defaults(run=forget)
    for action in (listing, rotating, forgetting):
        add_box(action)
        add_json(action)


def keep(arguments: argparse.Namespace) -> int:
    """Hand the token to the box and show its name."""
    token = _read_token()

    async def act(client: TerminalClient, key: RequestKey, deadline: Deadline) -> TokenAnswer:
        body = TokenBody(
            act="keep",
            token=token,
            purposes=tuple(sorted(set(arguments.purposes))),
            customer=arguments.customer,
            cashier=arguments.cashier,
        )
        return await client.token(body, key=key, deadline=deadline)

    with till_of(arguments) as home:
        answer = ask_till(home, act, when_in_doubt=_IN_DOUBT)
    if arguments.json:
        print_json(answer)
        return DONE
    print(
        f"\n    {answer.name}\n\nKept for {' and '.join(answer.purposes)}; nobody can read the token back. To sell:\n"
    )
    later = "" if "sale" in answer.purposes else " --later"  # what is kept for hold alone is not sold at once
    print(f"    {PROGRAM} pay --card{later} --source {answer.name}")
    return DONE


def list_all(arguments: argparse.Namespace) -> int:
    """One line per token, then one per data key."""
    door = box_of(arguments)
    tokens = list(_tokens(door))
    keys = door.vault()["keys"]
    if arguments.json:
        print_json({"tokens": tokens, "keys": keys})
        return DONE
    for each in tokens:
        ends = "" if each["expires_ms"] is None else f", until {time_text(each['expires_ms'])}"
        bound = ", a customer's" if each["has_customer"] else ""
        lost = "" if each["is_held"] else "  MISSING in vault.db: forget it, and ask for the card again"
        print(f"{each['name']}  {each['provider']}, for {' and '.join(each['purposes'])}{bound}{ends}{lost}")
    if not tokens:
        print(f"No token is kept.\n  next: {PROGRAM} vault keep --for sale")
    for key in keys:
        print(f"data key {key['key']}, made {time_text(key['made_ms'])}: {key['tokens']} lie under it")
    return DONE


def rotate(arguments: argparse.Namespace) -> int:
    """Begin a new data key; the box moves the tokens by itself."""
    key = box_of(arguments).rotate_vault()
    if arguments.json:
        print_json({"key": key})
    else:
        print(f"New tokens lie under data key {key} from now on; the others follow while the box sells.")
        print(f"  then only this key is left: {PROGRAM} vault list")
    return DONE


def forget(arguments: argparse.Namespace) -> int:
    """Forget, and say in which entry that stands."""
    seq = box_of(arguments).forget_token(arguments.name, arguments.reason)
    if arguments.json:
        print_json({"seq": seq})
    else:
        print(f"{arguments.name} is forgotten by entry {seq}: no payment is made with it from now on.")
    return DONE


def _tokens(door: LocalDoor) -> Iterator[dict[str, Any]]:
    after = ""
    while page := door.vault(after=after)["tokens"]:
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1]["name"]


def _read_token() -> str:
    token = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not token.strip():
        raise CannotDo("no token came on standard input", f"{PROGRAM} vault keep --for sale < FILE")
    return token.strip()
