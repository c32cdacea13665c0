"""What every action of `tillstone owner` that signs does alike: its arguments, the question, the key, the new files.

Owns how the owner's key comes together for one command. Must never take a secret as an argument, print one, or write
over a file.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.config.load import read_secret
from appliance.crypto.owner import OwnerKey
from appliance.crypto.self_test import run_all
from appliance.device.harden import harden
from appliance.model.errors import TillstoneError
from provisioning.commands.outcome import CannotDo
from provisioning.owner.shares import join, read_share
from provisioning.verify.wording import printable

Run: TypeAlias = Callable[[argparse.Namespace], int]
_NEXT: Final = {
    "owner_passphrase_wrong": "--passphrase-file FILE, of mode 0600, or type it at a keyboard",
    "owner_shares_differ": "name both shares of one key",
}


def add_signing(action: argparse.ArgumentParser, run: Run) -> None:
    """The arguments of an action that signs, and its errors in words."""
    action.add_argument("--trust", type=Path, required=True, metavar="FILE", help="trust.json as it stands today")
    action.add_argument("--share", type=Path, action="append", default=[], metavar="FILE", help="give both shares")
    action.add_argument(
        "--owner-key", type=Path, metavar="FILE", help="instead of shares, the whole key (of a sandbox)"
    )
    action.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="a new folder")
    action.add_argument("--yes", action="store_true", help="what will be signed was compared already")
    add_passphrase_file(action)
    action.set_defaults(run=in_words(run))


def add_passphrase_file(action: argparse.ArgumentParser) -> None:
    """`--passphrase-file`."""
    action.add_argument("--passphrase-file", type=Path, metavar="FILE", help="of mode 0600, instead of the keyboard")


def in_words(run: Run) -> Run:
    """Refusals with a next step for a computer that knows no box."""

    def told(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except TillstoneError as refusal:
            next_step = _NEXT.get(refusal.code, "appliance/docs/succession.md says what fits")
            raise CannotDo(
                f"{printable(refusal.detail)} ({refusal.code})", f"nothing was signed; {next_step}"
            ) from refusal

    return told


def make_ready() -> None:
    """Known answers first, as the box does, and no core dump of what comes."""
    run_all()
    harden()


def confirm(shown: tuple[str, ...], arguments: argparse.Namespace) -> None:
    """Show what will be signed, and go on when a person said yes. Raises CannotDo."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise CannotDo("nobody is here to compare what will be signed", "add --yes when it was compared before")
    print("This will be signed:\n")
    print("\n".join(f"  {line}" for line in shown))
    if input("\nCompare it with the screen of the box. Type yes when every digit is the same: ").strip() != "yes":
        raise CannotDo("you did not say yes; nothing was signed", "ask the box for a new request")


def owner_key(arguments: argparse.Namespace) -> OwnerKey:
    """The key out of both shares, or out of its file. Raises CannotDo and Rejected."""
    passphrase = read_passphrase(arguments)
    if arguments.owner_key is not None:
        read_secret(arguments.owner_key)  # that nobody else may read it; a key that ends like a line is no text
        return OwnerKey.load(arguments.owner_key, passphrase)
    if len(arguments.share) != 2:
        raise CannotDo("the key is in two shares", "name both: --share FILE --share FILE")
    return joined_shares(arguments.share, passphrase)


def joined_shares(paths: list[Path], passphrase: bytes | None) -> OwnerKey:
    """The key in two files; asks for a passphrase at a keyboard where one is needed."""
    shares = [read_share(read_secret(path).reveal().decode(errors="replace")) for path in paths]
    try:
        return join(shares[0], shares[1], passphrase)
    except TillstoneError as refusal:
        if refusal.code != "owner_passphrase_wrong" or passphrase is not None or not sys.stdin.isatty():
            raise
    return join(shares[0], shares[1], getpass.getpass("Passphrase of the owner's key: ").encode())


def read_passphrase(arguments: argparse.Namespace) -> bytes | None:
    """The one of `--passphrase-file`; None without the option."""
    return None if arguments.passphrase_file is None else read_secret(arguments.passphrase_file).reveal().rstrip(b"\n")


def read_policy_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `path`. Raises CannotDo."""
    try:
        key = serialization.load_pem_private_key(read_secret(path).reveal(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CannotDo(f"{path} holds no policy key", "tillstone owner policy-key FILE makes one")
    return key


def new_folder(folder: Path) -> Path:
    """An empty folder for what comes out. Raises CannotDo."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        raise CannotDo(f"{folder} cannot be made: {cause.strerror}", "name another folder") from cause
    if any(folder.iterdir()):
        raise CannotDo(f"{folder} holds files already", "name a new folder: nothing is written over")
    folder.chmod(0o700)
    return folder


def write_new(path: Path, content: bytes) -> None:
    """A new file of mode 0600, on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
