"""`tillstone succession`: what a stopped box does when its keys end, before and after the owner signed.

Owns the words. Must never see the owner's key: that is `tillstone owner`, on another computer.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from provisioning.commands.folder import add_sandbox
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.stopped import box_folder, box_with_devices, stopped_box

if TYPE_CHECKING:
    from provisioning.box import Box


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`succession first-log|next-keys|rotate|new-log|begin`."""
    parser = subparsers.add_parser(
        "succession",
        description="A box's first log, new keys for the same log, or a new log in place of a lost one; it is stopped.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, meaning, run in (
        ("first-log", "make a new box's devices, and the request to the owner for its first log", run_first_log),
        ("next-keys", "make the next keys in the token, and the request to the owner", run_next_keys),
        ("rotate", "put the owner's rotation into the log", run_rotate),
        ("new-log", "the request to the owner for a new log, under the token's present keys", run_new_log),
        ("begin", "begin the log that the owner signed; an older one is put aside", run_begin),
    ):
        action = actions.add_parser(name, help=meaning)
        action.set_defaults(run=run)
        if run is run_rotate:
            action.add_argument("signed", type=Path, metavar="FILE", help="rotation.cbor")
        if run is run_begin:
            action.add_argument("signed", type=Path, metavar="DIR", help="the folder with genesis.cbor and trust.json")
        if run is run_new_log:
            action.add_argument(
                "--new-devices", action="store_true", help="token and TPM are lost: make new ones first"
            )
        if run is run_first_log:
            _add_shop(action)
        add_sandbox(action)
        add_json(action)


def _add_shop(action: argparse.ArgumentParser) -> None:
    """Who sells: goes into the log's name and the settings, for ever."""
    from provisioning.box import ShopFacts

    for name, value in asdict(ShopFacts()).items():
        if name != "generation":
            action.add_argument(f"--{name}", default=value, help="(default: %(default)s)")


def run_first_log(arguments: argparse.Namespace) -> int:
    """Make a software token, a software TPM and keys in `--dir`, which may be missing, and ask the owner."""
    from provisioning.box import BoxFailed, ShopFacts
    from provisioning.sandbox.layout import SandboxFolder
    from provisioning.succession import request_first
    from provisioning.swtpm import SwtpmError
    from provisioning.token import TokenFailed

    folder = SandboxFolder.at(arguments.dir)
    facts = {name: getattr(arguments, name) for name in asdict(ShopFacts()) if name != "generation"}
    try:
        request = request_first(folder.box, ShopFacts(**facts))
    except (BoxFailed, SwtpmError, TokenFailed) as trouble:
        raise CannotDo(str(trouble), "put that right, then run the same command again") from trouble
    return _asked(arguments, request)


def run_next_keys(arguments: argparse.Namespace) -> int:
    """Make keys; the log goes on under the old ones until `rotate`."""
    from provisioning.succession import request_rotation, settings_of

    with box_with_devices(arguments) as (box, tcti):
        return _asked(arguments, asyncio.run(request_rotation(box, settings_of(box, tcti))))


def run_rotate(arguments: argparse.Namespace) -> int:
    """The change of keys becomes an entry, signed by the old ones."""
    from appliance.crypto.owner import SignedStatement
    from appliance.runtime.clock import SystemClock
    from provisioning.succession import rotate, rotated_at, settings_of

    signed = SignedStatement.decode(_read(arguments.signed))
    with box_with_devices(arguments) as (box, tcti):
        if (entry := rotated_at(box, signed)) is not None:
            return _done(arguments, box, f"Already done: entry {entry} is this rotation.")
        box = asyncio.run(rotate(box, settings_of(box, tcti), signed, SystemClock()))
    return _done(arguments, box, "The log goes on under the new keys.")


def run_new_log(arguments: argparse.Namespace) -> int:
    """Ask for a new generation."""
    from provisioning.box import renew_devices
    from provisioning.succession import request_successor

    with stopped_box(arguments) as box:
        return _asked(arguments, request_successor(renew_devices(box) if arguments.new_devices else box))


def run_begin(arguments: argparse.Namespace) -> int:
    """Begin the new log with the old one's terminals."""
    from appliance.ledger.genesis import read_body
    from appliance.runtime.clock import SystemClock
    from provisioning.succession import carry_over, has_begun, install_first, install_successor, settings_of

    genesis, trust = (_read(arguments.signed / name) for name in ("genesis.cbor", "trust.json"))
    if read_body(genesis).read().previous is None:
        with stopped_box(arguments) as new:
            return _done(arguments, install_first(new, genesis, trust), f"{new.shop.origin} can begin.")
    with box_with_devices(arguments) as (old, tcti):
        begins = "had begun already" if has_begun(old, genesis) else "begins"
        box = install_successor(old, genesis, trust)
        names = asyncio.run(carry_over(box, settings_of(box, tcti), SystemClock()))
    return _done(
        arguments, box, f"{box.shop.origin} {begins}; terminals that need no pairing: {', '.join(names) or '-'}."
    )


def _asked(arguments: argparse.Namespace, request: bytes) -> int:
    from provisioning.owner.statements import describe_request
    from provisioning.succession import REQUEST

    path = box_folder(arguments) / REQUEST
    says = describe_request(request)
    if arguments.json:
        print_json({"request": str(path), "says": list(says)})
        return DONE
    print("\n".join((f"{path} asks the owner to sign:", "", *(f"  {line}" for line in says))))
    return DONE


def _done(arguments: argparse.Namespace, box: Box, sentence: str) -> int:
    from provisioning.box import NOTE_ENVELOPE, public_key_sha256

    key = {"id": box.keys.classical_id.hex(), "public_key_sha256": public_key_sha256(box.keys.classical_public)}
    note = {} if box.keys.note is None else {"note": {"envelope_path": str(box.folder / NOTE_ENVELOPE)}}
    if arguments.json:
        print_json({"origin": box.shop.origin, "hsm.classical": key, **note})
        return DONE
    print(f"{sentence}\n  next: tillstone.toml says hsm.classical.id = {key['id']!r},")
    for path in note.values():
        print(f"        and note.envelope_path = {path['envelope_path']!r},")
    print(f"        public_key_sha256 = {key['public_key_sha256']!r} (a sandbox writes it itself); start the box")
    return DONE


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise CannotDo(f"{path} cannot be read: {cause.strerror}", "name what the owner signed") from cause
