"""`tillstone subject erase|export|check`: a person's data, erased or handed out, each time as an entry of the log.

Owns the words on the screen and the question before an erasure. Must never send a name anywhere but to the box's own
socket, nor leave a half-written file.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected, Unavailable
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.exports.output import new_file
from provisioning.local_door import LocalDoor
from provisioning.subject.document import Held, check, compose
from provisioning.verify.wording import printable, time_text


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Three actions, each with `--json`."""
    parser = subparsers.add_parser("subject", description="Hand out or erase what the box holds about a person.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    erasing = actions.add_parser("erase", help="forget a person for ever; the sales stay, and stay provable")
    erasing.add_argument("--yes", action="store_true", help="do not ask")
    erasing.set_defaults(run=erase)
    exporting = actions.add_parser("export", help="one file with everything held about a person, for that person")
    exporting.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to (JSON)")
    exporting.set_defaults(run=export)
    for action in (erasing, exporting):
        action.add_argument("subject", metavar="SUBJECT", help="cashier:NAME or customer:ID, exactly as tills send it")
        add_box(action)
    checking = actions.add_parser("check", help="verify an exported file, without the box; exit code 1 if it is false")
    checking.add_argument("file", type=Path, metavar="FILE")
    checking.add_argument("--trust", type=Path, required=True, metavar="FILE", help="the log's trust.json")
    checking.set_defaults(run=check_file)
    for action in (erasing, exporting, checking):
        add_json(action)


def erase(arguments: argparse.Namespace) -> int:
    """Say what will go, ask, erase."""
    box, subject = box_of(arguments), arguments.subject
    if not arguments.yes:
        _confirm(box, subject)
    answer = box.erase_subject(subject)
    if arguments.json:
        print_json(answer)
    elif answer["was_erased"]:
        print(f"{printable(subject)} was erased already, by entry {answer['seq']}; nothing came since.")
    else:
        print(
            f"{printable(subject)} is erased, by entry {answer['seq']}: {answer['entries']} entries lost their values"
        )
        print("Their amounts and their proofs stay. What was handed out earlier is not in reach of the box.")
    return DONE


def export(arguments: argparse.Namespace) -> int:
    """Write the file, whole or not at all."""
    box, subject = box_of(arguments), arguments.subject
    with new_file(arguments.output) as partial:
        held = _fetch(box, subject)
        content = msgspec.json.format(
            msgspec.json.encode(compose(subject, str(box.status()["origin"]), held)), indent=2
        )
        # Names somebody: for nobody but the operator until it is handed over.
        with open(partial, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content + b"\n")
    if arguments.json:
        print_json({"seq": held.seq, "entries": held.count, "file": str(arguments.output)})
        return DONE
    print(f"{arguments.output}: {held.count} entries with values about {printable(subject)}; entry {held.seq} says so")
    print("  it names the person: hand it over, keep no copy; no erasure reaches it")
    print(f"  anybody checks it with: tillstone subject check {arguments.output} --trust trust.json")
    return DONE


def check_file(arguments: argparse.Namespace) -> int:
    """Verify the receipts and compare the words with them."""
    try:
        content, trust = arguments.file.read_bytes(), arguments.trust.read_bytes()
    except OSError as cause:
        raise CannotDo(f"{cause.filename} cannot be read: {cause.strerror}", "check the name of the file") from cause
    try:
        about, count = check(content, load_trust(trust))
    except Rejected as refusal:
        if arguments.json:
            print_json({"genuine": False, "code": refusal.code, "detail": refusal.detail})
        else:
            print(f"{arguments.file} is NOT genuine: {printable(refusal.detail)} ({refusal.code})")
        return NO
    if arguments.json:
        print_json({"genuine": True, "about": about, "entries": count})
    else:
        print(f"{arguments.file} is genuine: {count} entries of the log, word for word as the receipts prove them.")
        print(f"Every value opened in it is about {printable(about)}, and the log says that it was handed out.")
        print("That these entries are all there are about that person is what the box says; no proof can.")
    return DONE


def _confirm(box: LocalDoor, subject: str) -> None:
    held = box.held_about(subject)
    span = "no entry any more: they were pruned, its key is left"
    if held["entries"]:
        span = f"{held['entries']} entries, from {time_text(held['first_ms'])} to {time_text(held['last_ms'])}"
    if held["is_carried"]:
        span = f"an earlier log{', and in ' + span if held['entries'] else '; their key is here'}"
    print(f"The box holds values about {printable(subject)} in {span}.")
    print("Erased, nobody can bring them back: names, and the signed requests that hold them. Sales and proofs stay.")
    if not sys.stdin.isatty():
        raise CannotDo("there is nobody to ask", "say --yes if you are sure")
    if input("Type the subject again to erase it: ") != subject:
        raise CannotDo("that is something else; nothing was erased", "run the command again")


def _fetch(box: LocalDoor, subject: str) -> Held:
    parts = list(box.export_subject(subject))
    match parts:
        case [{"seq": int(seq)}, *pages, {"end": int(count), "exported": str(exported)}]:
            return Held(
                seq=seq,
                count=count,
                receipts=tuple(msgspec.convert(page["receipt"], bytes) for page in pages),
                exported=msgspec.convert(exported, bytes),
            )
        case [*_, {"code": str(code), "detail": str(detail)}]:
            raise Unavailable(code, f"it was broken off: {detail}")
        case _:
            raise Unavailable("box_unreachable", "the box ended before it had said everything")
