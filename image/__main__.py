"""`python -m image build|again|lock|boot|verify`: what `make image` and its sisters run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance.model.errors import Rejected, TillstoneError
from image.boot import boot
from image.build import NotTheSame, build, build_again, lock
from image.console import ConsoleSilent
from image.definition import PROJECT, DefinitionInvalid
from image.keys import read_release_public
from image.machine import MachineFailed
from image.mirror import MirrorUnknown
from image.provenance import SUBJECTS, verify_provenance
from image.sizes import TooLarge
from image.tools import ToolFailed
from image.workshop import WorkshopBusy, alone, say

_REFUSALS = (
    ConsoleSilent,
    DefinitionInvalid,
    MachineFailed,
    MirrorUnknown,
    NotTheSame,
    ToolFailed,
    TooLarge,
    WorkshopBusy,
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
    verifying = actions.add_parser("verify", help="check an image's files against its provenance")
    verifying.add_argument("image", type=Path, help="folder of the image")
    verifying.add_argument(
        "--release-key", type=Path, required=True, help="release.pub, got another way than the image"
    )
    booting = actions.add_parser("boot")
    booting.add_argument("--smm", action="store_true", help="firmware whose variables the guest cannot write; slower")
    booting.add_argument("--leave", action="store_true", help="end after the sale instead of staying at the console")
    arguments = parser.parse_args()
    if arguments.action != "verify":
        _become_root()
    out, keys = arguments.out.resolve(), arguments.keys.resolve()
    try:
        if arguments.action == "build":
            with alone(out):
                build(out=out, keys_folder=keys, profile=arguments.profile)
        elif arguments.action == "again":
            with alone(out):
                build_again(out=out, keys_folder=keys)
        elif arguments.action == "boot":
            boot(out=out, keys_folder=keys, has_smm=arguments.smm, is_kept=not arguments.leave)
        elif arguments.action == "verify":
            verify(arguments.image, arguments.release_key)
        else:
            with alone(out):
                lock(out=out, keys_folder=keys)
    except _REFUSALS as refusal:
        sys.stderr.write(f"image: {refusal}\n")
        return 1
    return 0


def verify(image: Path, release_key: Path) -> None:
    """Say what the signed provenance tells of the image in a folder. Raises Rejected: `release_key_unreadable` also."""
    try:
        release = read_release_public(release_key.read_bytes())
    except OSError as cause:
        raise Rejected("release_key_unreadable", f"{release_key} cannot be read: {cause.strerror}") from cause
    statement = verify_provenance(image, release)
    made, run = statement.predicate.build_definition, statement.predicate.run_details
    source, *others = made.resolved_dependencies
    commit = source.digest.get("gitCommit", "no commit")
    changed = "" if source.annotations.get("is_committed") else ", with files that no commit holds"
    say(f"{', '.join(SUBJECTS)}: as the release key signed them at {run.metadata.finished_on}")
    say(f"version {made.external_parameters.version}, {made.external_parameters.profile} profile")
    say(f"from {commit}{changed}, and {len(others)} packages and files, each with its hash")


def _become_root() -> None:
    """Root of a user namespace where the caller is not root: enough to own files and to mount, and nothing more."""
    if os.geteuid() != 0:
        words = ["unshare", "--map-root-user", "--map-auto", "--mount", sys.executable, "-m", "image", *sys.argv[1:]]
        os.execvp(words[0], words)


if __name__ == "__main__":
    sys.exit(main())
