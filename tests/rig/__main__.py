"""`python -m tests.rig short|full`: what `make rig` and `make rig-full` run. Leaves report.md and report.json."""

from __future__ import annotations

import argparse
import fcntl
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from image.boot import attach
from image.keys import ensure_keys
from image.machine import accelerator
from image.workshop import remove_tree, say
from tests.rig.box import Box
from tests.rig.lan import BOX, NoNetwork, build, enter, way_in
from tests.rig.report import Report, StageFailed
from tests.rig.story import CUTS_ASKED, Form, Rig, run
from tests.rig.world import PROJECT, outside

CUTS_SHORT: Final = 5
NOT_THERE: Final = (
    "Not looked at: updates and the other slot, attestation, backup and restore.",
    "The box that sells is the developer profile's bench box: nobody can invite a till at a release image yet.",
    "Not looked at: the box's TLS to providers. The bench calls its twin by plain HTTP on itself, and a relay carries"
    " that out.",
)


def main() -> int:
    """Run one form; 1 when something did not hold."""
    arguments = _arguments().parse_args()
    try:
        outside_pid = enter(sys.argv[1:])
    except NoNetwork as refusal:
        sys.stderr.write(f"rig: {refusal}\n")
        return 1
    # The first process of a process namespace hears only the signals that it asks for.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    form: Form = arguments.form
    out: Path = arguments.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"rig: another one runs in {out}\n")
        return 1
    remove_tree(out)
    out.mkdir(mode=0o700)
    report = Report(form=form, accelerator=accelerator(), not_there=list(NOT_THERE))
    cuts = arguments.cuts or (CUTS_ASKED if form == "full" else CUTS_SHORT)
    with build(out) as lan, outside(lan, out / "world") as world:
        rig = Rig(
            form=form, cuts=cuts, seed=arguments.seed, image=arguments.image.resolve(), out=out,
            keys=ensure_keys(arguments.keys.resolve()), report=report, lan=lan, world=world,
        )  # fmt: skip
        box = rig.box()
        try:
            with suppress(StageFailed):
                run(rig, box)
            report.write(out)
            if arguments.keep:
                _keep(box, outside_pid)
        finally:
            box.cut_power()
            report.write(out)
    say(f"\n{report.page()}\n{out.relative_to(PROJECT) if out.is_relative_to(PROJECT) else out}/report.md, report.json")
    return 0 if report.is_ok else 1


def _keep(box: Box, outside_pid: int) -> None:
    """Hand the machine to a person."""
    box.ensure_on()
    say(f"the box is at {BOX}; another terminal of the same user reaches it by")
    say(f"  {way_in(outside_pid)} curl http://{BOX}:9080/health")
    say("this is its console, Enter shows the prompt, Ctrl-] leaves and cuts the power:")
    attach(box.machine)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.rig")
    parser.add_argument("form", choices=("short", "full"))
    parser.add_argument("--image", type=Path, default=PROJECT / "build/image", help="what make image left")
    parser.add_argument("--keys", type=Path, default=PROJECT / "build/image-keys")
    parser.add_argument("--out", type=Path, default=PROJECT / "build/rig")
    parser.add_argument("--cuts", type=int, help=f"power cuts (short: {CUTS_SHORT}, full: {CUTS_ASKED})")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--keep", action="store_true", help="stay at the machine's console afterwards")
    parser.add_argument("--entered", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
