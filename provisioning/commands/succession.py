"""`tillstone succession`: what a stopped box does when its keys end, before and after the owner signed.

Owns the words. Must never see the owner's key: that is `tillstone owner`, on another computer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from provisioning.commands.folder import add_sandbox
from provisioning.commands.outcome import DONE, CannotDo, print_json

if TYPE_CHECKING:
    from provisioning.box import Box


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`succession next-keys|rotate|new-log|begin`."""
    parser = subparsers.add_parser(
        "succession", description="New keys for the same log, or a new log in place of a lost one; the box is stopped."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, meaning, run in (
        ("next-keys", "make the next keys in the token, and the request to the owner", run_next_keys),
        ("rotate", "put the owner's rotation into the log", run_rotate),
        ("new-log", "the request to the owner for a new log, under the token's present keys", run_new_log),
        ("begin", "put the old log aside and begin the one that the owner signed", run_begin),
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
        add_sandbox(action)
        action.add_argument("--json", action="store_true", help="for programs")


def run_next_keys(arguments: argparse.Namespace) -> int:
    """Make keys; the log goes on under the old ones until `rotate`."""
    from provisioning.succession import request_rotation, settings_of

    with _devices(arguments) as (box, tcti):
        return _asked(arguments, asyncio.run(request_rotation(box, settings_of(box, tcti))))


def run_rotate(arguments: argparse.Namespace) -> int:
    """The change of keys becomes an entry, signed by the old ones."""
    from appliance.crypto.owner import SignedStatement
    from appliance.runtime.clock import SystemClock
    from provisioning.succession import rotate, settings_of

    signed = SignedStatement.decode(_read(arguments.signed))
    with _devices(arguments) as (box, tcti):
        box = asyncio.run(rotate(box, settings_of(box, tcti), signed, SystemClock()))
    return _done(arguments, box, "The log goes on under the new keys.")


def run_new_log(arguments: argparse.Namespace) -> int:
    """Ask for a new generation."""
    from provisioning.box import renew_devices
    from provisioning.succession import request_successor

    box = _box(arguments)
    return _asked(arguments, request_successor(renew_devices(box) if arguments.new_devices else box))


def run_begin(arguments: argparse.Namespace) -> int:
    """Begin the new log with the old one's terminals."""
    from appliance.runtime.clock import SystemClock
    from provisioning.succession import carry_terminals, install_successor, settings_of

    genesis, trust = (_read(arguments.signed / name) for name in ("genesis.cbor", "trust.json"))
    with _devices(arguments) as (old, tcti):
        box = install_successor(old, genesis, trust)
        names = asyncio.run(carry_terminals(box, settings_of(box, tcti), SystemClock()))
    return _done(
        arguments, box, f"{box.shop.origin} begins; terminals that need no pairing: {', '.join(names) or '-'}."
    )


def _asked(arguments: argparse.Namespace, request: bytes) -> int:
    from provisioning.owner.statements import describe_request
    from provisioning.succession import REQUEST

    path = _folder(arguments) / REQUEST
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


def _box(arguments: argparse.Namespace) -> Box:
    from provisioning.box import read_box

    box = read_box(_folder(arguments))
    os.environ.update(box.environment)  # where SoftHSM finds its store
    return box


@contextmanager
def _devices(arguments: argparse.Namespace) -> Iterator[tuple[Box, str | None]]:
    """The box, and where its TPM is: a software TPM is switched on for as long as it takes."""
    from provisioning.box import start_tpm

    box = _box(arguments)
    if not box.tpm.is_dir():
        yield box, None
        return
    running = start_tpm(box)
    try:
        yield box, running.tcti
    finally:
        running.process.terminate()
        running.process.wait()


def _folder(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.dir
    return next((path for path in (folder / "box", folder) if (path / "box.json").is_file()), folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise CannotDo(f"{path} cannot be read: {cause.strerror}", "name what the owner signed") from cause
