"""`tillstone escrow keep|collect|open|ask`: what terminals keep for a lost box, and what became of its payments.

Owns arguments, files, words and exit codes: 0 opened and the newest that a terminal knows of, 1 refused or stale, 2 it
could not be looked at. Must never print a key, and never move money.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any, Final

from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.money import Money
from appliance.payment.lost_operations import LostOperation, lost_accounts, lost_operations
from appliance.runtime.clock import SystemClock
from provisioning.commands.answer import add_till, till_of
from provisioning.commands.folder import add_box
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, counted, print_json
from provisioning.commands.status import box_of
from provisioning.escrow.parcels import Judged, gather, judge, name_of, seen_by
from provisioning.recipient_key import read_seed
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import open_terminal
from provisioning.terminal.durable import create_durably
from provisioning.terminal.escrow import keep_newest
from provisioning.terminal.home import TerminalHome
from provisioning.verify.wording import printable, time_text

_STATES: Final = {
    "confirmed": "done: the provider has it",
    "rejected": "the provider said no: no money moved",
    "absent": "never done: two complete listings do not hold it. Sell anew, or ask the customer",
    "unknown": "NOT KNOWN: it was not found here, and that proves nothing",
    "ask_again": "not known yet: ask again in some minutes",
    "in_device": "in the card device: have the device or its acquirer send it, once; nothing here can tell",
    "provider_missing": "this box's settings do not name its provider",
    "unknown_kind": "of a kind that this release does not know",
}


_WHY_UNKNOWN: Final = {
    "account_unknown": "nothing proves that this is the account that the lost box asked",
    "account_other": "this box asks another account than the lost box did",
    "parcel_may_be_older": "nobody was asked as far as the parcel knows; the box may have gone on after it",
}
_NEXT_UNKNOWN: Final = {
    "account_unknown": "look in the lost box's account at {provider} by hand, for the payment's key",
    "account_other": "put the lost box's credentials of {provider} into this box's settings, restart it, ask again",
    "parcel_may_be_older": "look at {provider} by hand, for the payment's key",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Four actions."""
    parser = subparsers.add_parser("escrow", description="What terminals keep, sealed, in case the box is lost.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    keeping = actions.add_parser("keep", help="have a terminal ask for the newest parcel and keep it")
    add_till(keeping)
    keeping.set_defaults(run=keep)
    collecting = actions.add_parser("collect", help="copy parcels out of terminals' homes into one folder")
    collecting.set_defaults(run=collect)
    opening = actions.add_parser("open", help="open the newest with the recovery key, and show what waited")
    opening.set_defaults(run=open_newest)
    asking = actions.add_parser("ask", help="have a second box ask the providers what became of it; moves no money")
    asking.set_defaults(run=ask)
    for action in (collecting, opening, asking):
        action.add_argument("places", type=Path, nargs="+", metavar="PLACE", help="a terminal's home, folder or file")
    collecting.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="a folder for the copies")
    for action in (opening, asking):
        action.add_argument("--key", type=Path, metavar="FILE", required=True, help="the recovery key, the private one")
        action.add_argument("--trust", type=Path, metavar="FILE", required=True, help="trust.json: the owner you pin")
        add_json(action)
    add_box(asking)


_NEXT: Final = {
    "escrow_not_set_up": "name the recovery recipient in the box's settings, [escrow] recipient_path, and start it anew"
}


def keep(arguments: argparse.Namespace) -> int:
    """One parcel, the newest."""
    with till_of(arguments) as home:
        try:
            answer = asyncio.run(_keep(home))
        except (Rejected, Unavailable, OutcomeUnknown) as refusal:
            raise CannotDo(
                f"{refusal.detail} ({refusal.code})", _NEXT.get(refusal.code, f"{PROGRAM} status")
            ) from refusal
        if arguments.json:
            print_json({"size": answer[0], "waiting": answer[1]})
        else:
            kept = f"kept in {home.escrow_folder}, sealed: only the recovery key opens it"
            print(f"{counted(answer[1], 'payment waits', 'payments wait')}; {kept}.")
    return DONE


def collect(arguments: argparse.Namespace) -> int:
    """Copy what was found; the same parcel of two terminals is one file."""
    arguments.output.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = set()
    for found in gather(arguments.places):
        try:
            name = name_of(found)
        except Rejected as refusal:
            print(f"{found.place}: left out, {refusal.detail} ({refusal.code})")
            continue
        names.add(name)
        target = arguments.output / name
        if not target.exists():
            create_durably(target, found.content)
        elif target.read_bytes() != found.content:
            # Two terminals say different things of one moment: which of them is genuine is seen when they are opened.
            create_durably(arguments.output / f"{found.place.parent.parent.name}-{name}", found.content)
    print(f"{counted(len(names), 'parcel', 'parcels')} in {arguments.output}")
    return DONE if names else NO


def open_newest(arguments: argparse.Namespace) -> int:
    """Show what waited."""
    try:
        judged = _judged(arguments)
    except Rejected as refusal:
        return _refuse(refusal, arguments)
    lost = lost_operations(judged.waiting)
    if arguments.json:
        print_json(_told(judged, lost))
    else:
        _show(judged, lost)
    return NO if judged.entries_after else DONE


def ask(arguments: argparse.Namespace) -> int:
    """Ask by reading, and say what stands in the second box's log."""
    try:
        judged = _judged(arguments)
    except Rejected as refusal:
        return _refuse(refusal, arguments)
    answers = box_of(arguments).ask_about_lost(judged.parcel.receipt)
    if arguments.json:
        print_json(answers)
    else:
        for each in answers:
            entry = "" if each["seq"] is None else f", entry {each['seq']}"
            print(f"{_named(each['kind'], Money(each['amount_minor'], each['currency']), each['payment'])}{entry}")
            print(f"  {_STATES.get(each['state'], each['state'])}{_code(each)}")
            if each["state"] == "unknown":
                _explain(each)
        print(f"{counted(len(answers), 'operation', 'operations')} of {printable(judged.parcel.header.origin)}")
    return DONE if all(each["is_final"] for each in answers) else NO


def _explain(each: dict[str, Any]) -> None:
    print(f"    {_WHY_UNKNOWN.get(each['code'], each['code'])}")
    for whose, account in (("lost box", each["account_lost"]), ("this box", each["account_here"])):
        print(f"    {whose}: {'does not say' if account is None else printable(account)}")
    step = _NEXT_UNKNOWN.get(each["code"], _NEXT_UNKNOWN["account_unknown"])
    print(f"    next: {step.format(provider=printable(each['provider']))}")


async def _keep(home: TerminalHome) -> tuple[int, int]:
    async with open_terminal(home, clock=SystemClock()) as client:
        answer = await keep_newest(home, client)
    return answer.size, answer.waiting


def _judged(arguments: argparse.Namespace) -> Judged:
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    seed = read_seed(arguments.key, made_by=f"{PROGRAM} owner recovery-key")
    return judge(gather(arguments.places), seed, trust, seen_size=seen_by(arguments.places))


def _refuse(refusal: Rejected, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json({"ok": False, "code": refusal.code, "detail": refusal.detail})
    else:
        print(f"Refused: {printable(refusal.detail)} ({refusal.code})")
    return NO


def _told(judged: Judged, lost: tuple[LostOperation, ...]) -> dict[str, Any]:
    header = judged.parcel.header
    return {
        "ok": True,
        "log": header.origin,
        "size": header.size,
        "made_ms": header.made_ms,
        "entries_after": judged.entries_after,
        "left_out": judged.parcel.manifest.left_out,
        "accounts": lost_accounts(judged.parcel.entries.values()),
        "waiting": [
            {
                "payment": str(each.payment),
                "operation": each.name,
                "kind": each.kind,
                "provider": each.provider,
                "amount_minor": each.money.amount_minor,
                "currency": each.money.currency,
                "prepared_ms": each.prepared_ms,
                "reference": each.known,
                "is_in_device": each.is_in_device,
            }
            for each in lost
        ],
        "tail": [{"seq": each.seq, "kind": each.kind, "time_ms": each.time_ms} for each in judged.parcel.tail],
        "refused": [{"place": str(place), "code": refusal.code} for place, refusal in judged.refused],
    }


def _show(judged: Judged, lost: tuple[LostOperation, ...]) -> None:
    header, manifest = judged.parcel.header, judged.parcel.manifest
    print(
        f"Genuine: {printable(header.origin)}, its first {header.size} entries, sealed at {time_text(header.made_ms)}."
    )
    for each in lost:
        where = "; accepted by the device without its bank" if each.is_in_device else ""
        print(f"  {_named(each.kind, each.money, str(each.payment))}")
        print(
            f"    at {printable(each.provider)}, since {time_text(each.prepared_ms)}, key {printable(each.name)}{where}"
        )
    for provider, account in sorted(lost_accounts(judged.parcel.entries.values()).items()):
        print(f"  Its account at {printable(provider)}: {printable(account)}")
    totals: dict[str, int] = {}
    for each in lost:
        totals[each.money.currency] = totals.get(each.money.currency, 0) + each.money.amount_minor
    print(f"{counted(len(lost), 'operation waits', 'operations wait')}: ", end="")
    print(", ".join(str(Money(minor, currency)) for currency, minor in totals.items()) or "no money hangs on it")
    print(
        f"The end of the log, {counted(len(judged.parcel.tail), 'entry', 'entries')}, follows from it entry by entry."
    )
    if manifest.left_out:
        print(f"NOT HERE: {counted(manifest.left_out, 'payment', 'payments')} that had no room in the parcel.")
    if judged.entries_after:
        print(f"STALE: a terminal has seen {counted(judged.entries_after, 'entry', 'entries')} more of this log.")
    for place, refusal in judged.refused:
        print(f"{place}: not used, {printable(refusal.detail)} ({refusal.code})")
    if lost:
        print(f"  next: {PROGRAM} escrow ask ... --dir SECOND-BOX   asks the providers what became of it")


def _named(kind: str, money: Money, payment: str) -> str:
    return f"{printable(kind)} {money}, payment {payment}"


def _code(each: dict[str, Any]) -> str:
    said = [str(each[name]) for name in ("reference", "code") if each[name]]
    return f" ({', '.join(printable(text) for text in said)})" if said else ""
