"""`tillstone screen show|set|why`: what screening looks for, and why it said what it said of one payment.

Owns the words on the screen; what may be set is decided by the box.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.status import box_of

_RULES: Final = {
    "velocity": "sales at this terminal in the window",
    "sale_ceiling": "minor units in one sale",
    "hour_ceiling": "minor units at this terminal within the hour",
    "offline_exposure": "minor units that hang on banks not asked, with this card",
    "hours": "minutes after midnight; closed since",
    "refund_velocity": "refunds at this terminal in the window",
    "model": "score of the trained model, of 1000",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Three actions, each with `--json`."""
    parser = subparsers.add_parser("screen", description="Look at screening, change a threshold, ask why.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    showing = actions.add_parser("show", help="every threshold, and what was watched or refused in the last day")
    showing.set_defaults(run=show)
    setting = actions.add_parser("set", help="change thresholds, from the next request on and for good")
    setting.add_argument("changes", nargs="+", metavar="NAME=VALUE", help="such as velocity_mode=refuse")
    setting.set_defaults(run=change)
    asking = actions.add_parser("why", help="the verdict on one sale or refund, and its reasons")
    asking.add_argument("key", help="of the sale or refund")
    asking.set_defaults(run=why)
    for action in (showing, setting, asking):
        add_box(action)
        add_json(action)


def show(arguments: argparse.Namespace) -> int:
    """One line per threshold, then the last day in one line per verdict."""
    answer = box_of(arguments).screening()
    if arguments.json:
        print_json(answer)
        return DONE
    for each in answer["thresholds"]:
        print(f"{each['name']:<32} {each['value']!s:<10} {'changed by you' if each['is_changed'] else ''}".rstrip())
    print(f"\nmodel: {answer['model'] or 'none, rules only; tillstone status says why'}")
    print("last 24 hours: " + ("; ".join(_count(each) for each in answer["last_day"]) or "no rule spoke"))
    return DONE


def change(arguments: argparse.Namespace) -> int:
    """Send the changes, and say in which entry they stand."""
    changes: dict[str, int | str] = {}
    for text in arguments.changes:
        name, equals, value = text.partition("=")
        if not equals:
            raise CannotDo(f"{text!r} is not NAME=VALUE", "tillstone screen show lists the names")
        changes[name] = int(value) if value.isascii() and value.isdigit() else value
    answer = box_of(arguments).change_screening(changes)
    if arguments.json:
        print_json(answer)
    else:
        print(f"Changed by entry {answer['seq']}; it holds from the next request on.")
    return DONE


def why(arguments: argparse.Namespace) -> int:
    """One line per verdict, and one per reason."""
    answer = box_of(arguments).screened(arguments.key)
    if arguments.json:
        print_json(answer)
        return DONE
    for each in answer:
        score = "" if each["score_permille"] is None else f", score {each['score_permille']} of 1000"
        print(f"entry {each['seq']}: {each['verb']} {each['verdict']}{score}")
        for reason in each["reasons"]:
            words = _RULES.get(reason["rule"], "")
            print(f"  {reason['rule']}: {reason['seen']}, limit {reason['limit']} ({words})")
        if each["model"]:
            print(f"  model {each['model']}")
    return DONE


def _count(each: dict[str, Any]) -> str:
    return f"{each['count']} {each['verdict']} ({', '.join(each['rules'])})"
