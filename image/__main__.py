"""`python -m image build|again|lock|boot`: what `make image` and its sisters run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance.model.errors import TillstoneError
from image.boot import boot
from image.build import NotTheSame, build, build_again, lock
from image.console import ConsoleSilent
from image.definition import PROJECT, DefinitionInvalid
from image.machine import MachineFailed
from image.mirror import MirrorUnknown
from image.sizes import TooLarge
from image.tools import ToolFailed

_REFUSALS = (
    ConsoleSilent,
    DefinitionInvalid,
    MachineFailed,
    MirrorUnknown,
    NotTheSame,
    ToolFailed,
    TooLarge,
    TillstoneError,
)


def main() -> int:
    """Run one command; 1 with a sentence when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m image")
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "image")
    parser.add_argument("--keys", type=Path, default=PROJECT / "build" / "image-keys", help="made when not there")
    actions = parser.add_subparsers(dest="action", required=True)
    building = actions.add_parser("build")
    building.add_argument("--profile", choices=("release", "developer"), default="release")
    actions.add_parser("lock")
    actions.add_parser("again")
    booting = actions.add_parser("boot")
    booting.add_argument("--smm", action="store_true", help="firmware whose variables the guest cannot write; slower")
    booting.add_argument("--leave", action="store_true", help="end after the sale instead of staying at the console")
    arguments = parser.parse_args()
    _become_root()
    out, keys = arguments.out.resolve(), arguments.keys.resolve()
    try:
        if arguments.action == "build":
            build(out=out, keys_folder=keys, profile=arguments.profile)
        elif arguments.action == "again":
            build_again(out=out, keys_folder=keys)
        elif arguments.action == "boot":
            boot(out=out, keys_folder=keys, has_smm=arguments.smm, is_kept=not arguments.leave)
        else:
            lock(out=out, keys_folder=keys)
    except _REFUSALS as refusal:
        sys.stderr.write(f"image: {refusal}\n")
        return 1
    return 0


def _become_root() -> None:
    """Root of a user namespace where the caller is not root: enough to own files and to mount, and nothing more."""
    if os.geteuid() != 0:
        words = ["unshare", "--map-root-user", "--map-auto", "--mount", sys.executable, "-m", "image", *sys.argv[1:]]
        os.execvp(words[0], words)


if __name__ == "__main__":
    sys.exit(main())
