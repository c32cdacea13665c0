"""`tillstone device`: the state of the box, its lock and the end of that. Owns the words on the screen."""

from __future__ import annotations

import argparse
from typing import Any

from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.verify.wording import time_text


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`device state`, `device lock|unlock --reason TEXT`, `device accept-clock`."""
    parser = subparsers.add_parser("device", description="The state of the box: see it, lock the box, unlock it.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    showing = actions.add_parser("state", help="how the box is, since when and why")
    showing.set_defaults(run=show)
    locking = actions.add_parser("lock", help="sell nothing and give nothing back, also after a restart")
    locking.set_defaults(run=lock)
    unlocking = actions.add_parser("unlock", help="end the lock, of a person or of the tamper contact")
    unlocking.set_defaults(run=unlock)
    accepting = actions.add_parser("accept-clock", help="the clock that the box doubts is right: go by it again")
    accepting.set_defaults(run=accept_clock)
    for action in (locking, unlocking):
        action.add_argument("--reason", required=True, help="goes into the log, for ever; no names")
    for action in (showing, locking, unlocking, accepting):
        add_box(action)
        add_json(action)


def show(arguments: argparse.Namespace) -> int:
    """Ask and print."""
    return _tell(arguments, box_of(arguments).device())


def lock(arguments: argparse.Namespace) -> int:
    """Lock, and show the state after it."""
    return _tell(arguments, box_of(arguments).lock_device(arguments.reason))


def unlock(arguments: argparse.Namespace) -> int:
    """Unlock, and show the state after it."""
    return _tell(arguments, box_of(arguments).unlock_device(arguments.reason))


def accept_clock(arguments: argparse.Namespace) -> int:
    """Accept, and show the state after it."""
    return _tell(arguments, box_of(arguments).accept_clock())


def _tell(arguments: argparse.Namespace, standing: dict[str, Any]) -> int:
    if arguments.json:
        print_json(standing)
        return DONE
    why = f": {standing['reason']}" if standing["reason"] else ""
    print(f"{standing['state']} since {time_text(standing['since_ms'])}{why}")
    if standing["lock"] is not None and standing["state"] != "locked":
        print(f"locked behind that: {standing['lock']}")
    return DONE
