"""`tillstone audit key|open`: the auditor's key, and what was published for it.

Owns arguments, files and exit codes: 0 all of it is genuine, 1 it is not, 2 it could not be looked at. Must never write
over a key, print one, or leave entries behind of which one is not the log's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import BinaryIO, Final

from appliance.evidence.cid import cid_text
from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from appliance.model.errors import Rejected
from provisioning.audit.opening import Place, check, check_follows
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, counted, print_json
from provisioning.exports.output import new_file
from provisioning.recipient_key import make_recipient, read_seed
from provisioning.verify.wording import printable

CAR_BYTES_MAX: Final = 64 << 20
_MAKER: Final = "tillstone audit key"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`audit key FILE` and `audit open CAR... --trust FILE`."""
    parser = subparsers.add_parser("audit", description="Make an auditor's key; check and open what was published.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    making = actions.add_parser(
        "key",
        help="make a key pair",
        description="Make a key pair: FILE stays with the auditor, FILE.pub is for boxes.",
    )
    making.add_argument("file", type=Path, metavar="FILE", help="the private key; must not exist")
    making.set_defaults(run=make_key)
    opening = actions.add_parser(
        "open",
        help="check publications and open their entries",
        description="Check publications, as `ipfs dag export ROOT` writes them, and open their entries.",
    )
    opening.add_argument("cars", type=Path, nargs="+", metavar="CAR", help="in the order of the log")
    opening.add_argument("--trust", type=Path, metavar="FILE", required=True, help="trust.json: the owner that you pin")
    opening.add_argument(
        "--key", type=Path, metavar="FILE", help="private key; without it only what is public is checked"
    )
    opening.add_argument("-o", "--output", type=Path, metavar="FILE", help="entries, as a CBOR sequence (RFC 8742)")
    add_json(opening)
    opening.set_defaults(run=open_all)


def make_key(arguments: argparse.Namespace) -> int:
    """Write both files and say what is whose."""
    public, key_id = make_recipient(arguments.file)
    print(f"{arguments.file}: keep it with the auditor, offline; without it nothing published can ever be read.")
    print(f"{public}: into publication.recipient_path of each box; SHA-256 {key_id}")
    return DONE


def open_all(arguments: argparse.Namespace) -> int:
    """Check each file, and write the entries when a key is there."""
    if arguments.output is not None and arguments.key is None:
        raise CannotDo("entries open with the auditor's key only", "add --key FILE, or leave -o away")
    try:
        if arguments.output is None:
            found = _open_each(arguments, None)
        else:
            with new_file(arguments.output) as partial, partial.open("wb") as output:
                found = _open_each(arguments, output)
    except Rejected as refusal:
        if arguments.json:
            print_json({"ok": False, "code": refusal.code, "detail": refusal.detail})
        else:
            print(f"Not genuine: {printable(refusal.detail)} ({refusal.code})")
        return NO
    if arguments.json:
        print_json({"ok": True, "publications": found})
    else:
        _show(found, is_opened=arguments.key is not None)
    return DONE


def _open_each(arguments: argparse.Namespace, output: BinaryIO | None) -> list[dict[str, object]]:
    """What was found in each file; one file is in memory at a time."""
    seed = None if arguments.key is None else read_seed(arguments.key, made_by=_MAKER)
    trust = load_trust(_read(arguments.trust, TRUST_BYTES_MAX))
    found: list[dict[str, object]] = []
    last: Place | None = None
    for path in arguments.cars:
        checked = check(_read(path, CAR_BYTES_MAX), trust)
        last = check_follows(last, checked)
        for entry in () if seed is None else checked.entries(seed):
            if output is not None:
                output.write(entry)
        scope = checked.publication.root.scope
        found.append(
            {
                "root": cid_text(checked.cid),
                "log": scope.origin,
                "first": scope.first,
                "end": scope.end,
                "checkpoint_size": checked.checkpoint.size,
                "is_opened": seed is not None,
            }
        )
    return found


def _show(found: list[dict[str, object]], *, is_opened: bool) -> None:
    for each in found:
        what = "opened, each entry's hash is in the log" if is_opened else "public part genuine, entries not opened"
        print(f"{each['root']}  entries {each['first']} to {int(str(each['end'])) - 1} of {each['log']}: {what}")
    count = counted(len(found), "publication", "publications")
    print(f"Genuine: {count}, under checkpoints of up to {found[-1]['checkpoint_size']} entries.")


def _read(path: Path, size_max: int) -> bytes:
    content = read_named(path, size_max)
    if len(content) > size_max:
        raise CannotDo(f"{path} is larger than {size_max} bytes", "one publication is at most some MB: check the file")
    return content
