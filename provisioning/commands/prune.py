"""`tillstone prune`: removes the bodies of old entries, once witnesses vouch for a snapshot of what they came to.

Owns the words on the screen. The conditions are the box's (`appliance/ledger/prune.py`).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from appliance.model.errors import Rejected
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, entries, print_json
from provisioning.commands.status import box_of
from provisioning.local_door import LocalDoor

KEEP_DAYS_DEFAULT = 400


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`prune [--keep-days N] [--dry-run | --yes] [--json]`."""
    parser = subparsers.add_parser("prune", description="Remove the bodies of old entries; their hashes stay for ever.")
    parser.add_argument(
        "--keep-days", type=int, default=KEEP_DAYS_DEFAULT, metavar="N", help="at least 91 (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan; take a snapshot where one is needed; prune where witnesses vouch for it. Exit code 1: not yet."""
    box = box_of(arguments)
    plan = box.prune_plan(arguments.keep_days)
    if arguments.dry_run:
        return _told(plan, _meaning(plan), DONE, arguments)
    if _needs_snapshot(plan):
        return _take_snapshot(box, plan, arguments)
    if plan["below"] == plan["pruned_below"] or not plan["is_cosigned"]:
        return _told(plan, _meaning(plan), NO, arguments)
    if not arguments.yes:
        _confirm(plan)
    try:
        done = box.prune(arguments.keep_days)
    except Rejected as refusal:
        if refusal.code not in ("snapshot_missing", "snapshot_damaged"):
            raise
        return _take_snapshot(box, plan, arguments)
    meaning = f"the bodies of entries below {done['below']:,} are gone; their hashes, and every proof, stay"
    return _told(done, meaning, DONE, arguments)


def _take_snapshot(box: LocalDoor, plan: dict[str, Any], arguments: argparse.Namespace) -> int:
    plan = {**plan, "snapshot": box.take_snapshot(), "is_cosigned": False}
    taken = f"snapshot taken as entry {plan['snapshot']}; run this again once witnesses have cosigned it"
    return _told(plan, taken, NO, arguments)


def _needs_snapshot(plan: dict[str, Any]) -> bool:
    return bool(plan["below"] == plan["pruned_below"] < plan["wanted_below"])


def _meaning(plan: dict[str, Any]) -> str:
    if _needs_snapshot(plan):
        return f"a snapshot is needed before entries below {plan['wanted_below']:,} can go"
    if plan["below"] == plan["pruned_below"]:
        return "nothing to prune: what is left is young, or still needed"
    count = plan["below"] - plan["pruned_below"]
    if not plan["is_cosigned"]:
        return f"of {entries(count)} none goes yet: no cosigned checkpoint covers snapshot {plan['snapshot']}"
    return f"{entries(count)} below {plan['below']:,} can go"


def _confirm(plan: dict[str, Any]) -> None:
    print(f"{_meaning(plan)}. What they say can then be had from an export or a publication only.")
    if not sys.stdin.isatty():
        raise CannotDo("there is nobody to ask", "say --yes if you are sure")
    if input("Type prune to remove them: ") != "prune":
        raise CannotDo("that is something else; nothing was removed", "run the command again")


def _told(plan: dict[str, Any], meaning: str, code: int, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(plan)
    else:
        gone = plan["pruned_below"]
        before = f"bodies below {gone:,} were gone before" if gone else "every body is there"
        print(f"{entries(plan['size'])}, {before}")
        print(f"  {meaning}")
    return code
