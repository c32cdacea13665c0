"""`tillstone auditor admit|list|revoke`: who may read entries at the public door, and for how long.

Owns the words on the screen. Must never keep a token: it is shown once.
"""

from __future__ import annotations

import argparse
import datetime

from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, add_json, print_json
from provisioning.commands.status import box_of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Three actions, each with `--json`."""
    parser = subparsers.add_parser("auditor", description="Admit, list or revoke auditors.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    admitting = actions.add_parser("admit", help="make a credential; its token is shown once")
    admitting.add_argument("name", help="who it is for; goes into the log, for ever")
    admitting.add_argument("--days", type=int, default=7, help="until it ends (default: %(default)s)")
    admitting.set_defaults(run=admit)
    listing = actions.add_parser("list", help="every credential that was ever made")
    listing.set_defaults(run=list_all)
    revoking = actions.add_parser("revoke", help="from now on it opens nothing")
    revoking.add_argument("credential", help="as `auditor list` shows it")
    revoking.add_argument("--reason", required=True, help="goes into the log, for ever")
    revoking.set_defaults(run=revoke)
    for action in (admitting, listing, revoking):
        add_box(action)
        add_json(action)


def admit(arguments: argparse.Namespace) -> int:
    """Show the token, and how it is used."""
    answer = box_of(arguments).admit_auditor(arguments.name, arguments.days)
    if arguments.json:
        print_json(answer)
        return DONE
    print(f"Give this to {arguments.name}; it is shown now and never again:\n\n    {answer['token']}\n")
    print(f"credential {answer['credential']}, until {_day(answer['expires_ms'])}, entry {answer['seq']}")
    print("It reads entries at the public door:  curl -H 'Authorization: Bearer TOKEN' .../tile/entries/000.p/2")
    return DONE


def list_all(arguments: argparse.Namespace) -> int:
    """One line per credential."""
    auditors = box_of(arguments).auditors()
    if arguments.json:
        print_json(auditors)
        return DONE
    for auditor in auditors:
        state = "revoked" if auditor["is_revoked"] else f"until {_day(auditor['expires_ms'])}"
        print(f"{auditor['credential']}  {state:<22}  {auditor['auditor']}")
    if not auditors:
        print("No auditor was admitted yet.\n  next: tillstone auditor admit NAME --days 7")
    return DONE


def revoke(arguments: argparse.Namespace) -> int:
    """Revoke, and say in which entry that stands."""
    answer = box_of(arguments).revoke_auditor(arguments.credential, arguments.reason)
    if arguments.json:
        print_json(answer)
    else:
        print(f"{arguments.credential} is revoked by entry {answer['seq']}: it opens nothing from now on.")
    return DONE


def _day(time_ms: int) -> str:
    return datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC).strftime("%Y-%m-%d %H:%MZ")
