"""`tillstone state-key FILE --key KEY`: the owner reads a state's recovery key. Owns the words on the screen."""

from __future__ import annotations

import argparse
from pathlib import Path

from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.recipient_key import read_seed
from provisioning.sandbox.screen import PROGRAM
from provisioning.state_key import open_file


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """One file, one key, `--json`."""
    parser = subparsers.add_parser("state-key", description="Read the recovery key that a box sealed to its owner.")
    parser.add_argument("file", type=Path, help="as the box wrote it when it was provisioned")
    parser.add_argument("--key", type=Path, required=True, help=f"private key of `{PROGRAM} owner recovery-key`")
    add_json(parser)
    parser.set_defaults(run=show)


def show(arguments: argparse.Namespace) -> int:
    """The disk that it is for, the key, and what to type."""
    seed = read_seed(arguments.key, made_by=f"{PROGRAM} owner recovery-key")
    try:
        sealed = arguments.file.read_bytes()
    except OSError as cause:
        raise CannotDo(f"{arguments.file} cannot be read: {cause.strerror}", "name the file from the stick") from cause
    volume, key = open_file(sealed, seed)
    if arguments.json:
        print_json({"volume": volume, "key": key})
        return DONE
    print(f"volume   {volume}\nkey      {key}\n")
    print("On a computer that has the box's disk, as root, and with the key when it asks:")
    print(f"  cryptsetup open --readonly /dev/disk/by-uuid/{volume} state && mount -o ro /dev/mapper/state /mnt")
    return DONE
