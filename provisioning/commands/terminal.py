"""`tillstone terminal invite|list|revoke`: who may sell at this box.

Owns the words and the QR code on the screen. Must never show or keep a terminal's key.
"""

from __future__ import annotations

import argparse
import sys

from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, print_json
from provisioning.commands.status import box_of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Three actions, each with `--json`."""
    parser = subparsers.add_parser("terminal", description="Invite, list or revoke terminals.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    inviting = actions.add_parser("invite", help="a one-time code for a new terminal, valid for ten minutes")
    inviting.add_argument("name", help="1 to 32 of a-z, 0-9 and inner hyphens")
    inviting.set_defaults(run=invite)
    listing = actions.add_parser("list", help="every terminal that was ever paired")
    listing.set_defaults(run=list_all)
    revoking = actions.add_parser("revoke", help="from now on nothing it signs is accepted")
    revoking.add_argument("name")
    revoking.add_argument("--reason", required=True, help="goes into the log, for ever")
    revoking.set_defaults(run=revoke)
    for action in (inviting, listing, revoking):
        add_box(action)
        action.add_argument("--json", action="store_true", help="for programs")


def invite(arguments: argparse.Namespace) -> int:
    """Show the code, and as a QR code where there is a screen."""
    invitation = box_of(arguments).invite(arguments.name)
    if arguments.json:
        print_json(invitation)
        return DONE
    code = invitation["code"]
    print(f"Type this at {arguments.name} within ten minutes, or let it read the QR code:\n")
    print(f"    {'-'.join(code[at : at + 4] for at in range(0, len(code), 4)) if '-' not in code else code}\n")
    if sys.stdout.isatty():
        import segno

        segno.make(invitation["qr"], error="m").terminal(compact=True)
    print(f"    {invitation['qr']}")
    return DONE


def list_all(arguments: argparse.Namespace) -> int:
    """One line per terminal."""
    terminals = box_of(arguments).terminals()
    if arguments.json:
        print_json(terminals)
        return DONE
    for terminal in terminals:
        print(f"{terminal['terminal']:<32}  {terminal['state']:<8}  key {terminal['key_id'][:16]}")
    if not terminals:
        print("No terminal is paired yet.\n  next: tillstone terminal invite till-3")
    return DONE


def revoke(arguments: argparse.Namespace) -> int:
    """Revoke, and say in which entry that stands."""
    answer = box_of(arguments).revoke(arguments.name, arguments.reason)
    if arguments.json:
        print_json(answer)
    else:
        print(f"{arguments.name} is revoked by entry {answer['seq']}: nothing it signs is accepted from now on.")
    return DONE
