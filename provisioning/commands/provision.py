"""`tillstone provision`: make this machine its owner's box, step by step, with a stick; or check how one was made.

Owns the words and the progress. The steps are `provisioning/ceremony`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.model.errors import Rejected
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json

if TYPE_CHECKING:
    from provisioning.ceremony.run import State
    from provisioning.ceremony.steps import Step

TCTI: Final = "device:/dev/tpmrm0"
FOLDER: Final = Path("/var/lib/tillstone")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`provision [--dir] [--stick] [--dry-run]`, `provision verify FILE --trust FILE`."""
    parser = subparsers.add_parser(
        "provision",
        description="Make this machine its owner's box. Twice with a stick: the first time the box writes its request"
        " onto it, the second time it takes what `tillstone owner sign-site` answered. Run it again after any"
        " interruption; run when all is done, it changes nothing.",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(metavar="verify")
    verify = actions.add_parser("verify", help="check a transcript, and say how the box was made")
    verify.add_argument("file", type=Path, metavar="FILE", help="transcript.cbor")
    verify.add_argument("--trust", type=Path, metavar="FILE", required=True, help="the owner's trust.json")
    add_json(verify)
    verify.set_defaults(run=run_verify)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a ceremony needs to know; also for the unit of the image."""
    parser.add_argument("--dir", type=Path, metavar="DIR", default=FOLDER, help="the box (default: %(default)s)")
    parser.add_argument("--stick", type=Path, metavar="DIR", help="where the stick is mounted")
    parser.add_argument("--serial", metavar="TEXT", help="of a new box (default: by its TPM's certificate)")
    parser.add_argument(
        "--state-key", type=Path, metavar="FILE", help="where the image leaves the sealed recovery key of the state"
    )
    parser.add_argument("--dry-run", action="store_true", help="say each step and touch nothing")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--tcti", default=TCTI, help="the TPM (default: %(default)s)")
    where.add_argument("--software-tpm", action="store_true", help="make one in the folder, for trying")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what is left, or say it."""
    from provisioning.ceremony import run as ceremony
    from provisioning.owner.signing import make_ready

    said: list[dict[str, object]] = []
    count = len(ceremony.all_steps())

    def tell(step: Step, state: State, took_ms: int) -> None:
        said.append({"step": step.name, "state": state, "took_ms": took_ms})
        if not arguments.json:
            took = f" ({took_ms / 1000:.1f} s)" if state == "now" else ""
            print(f"[{len(said):2}/{count}] {state:5}  {step.name}: {step.title}{took}", flush=True)

    with _in_words():
        if arguments.dry_run:
            signed = ceremony.plan(arguments.dir, stick=arguments.stick, tell=tell)
            if arguments.json:
                print_json({"steps": said, "answer": signed is not None})
            else:
                print("Nothing was touched." + (" The owner signed what is on the stick." if signed else ""))
            return DONE
        make_ready()
        outcome = ceremony.provision(
            arguments.dir,
            stick=arguments.stick,
            tcti=None if arguments.software_tpm else arguments.tcti,
            serial=arguments.serial,
            tell=tell,
            state_key=arguments.state_key,
        )
    if arguments.json:
        print_json({"steps": said, "open": outcome.is_open, "serial": outcome.serial, "request": outcome.fingerprint})
    elif outcome.is_open:
        print(f"{outcome.serial} is its owner's box and may start. Its transcript is on the stick, if there is one.")
    else:
        print(f"{outcome.serial} asks its owner; fingerprint of the request:\n  {outcome.fingerprint}")
        print("  next: tillstone owner sign-site SITE.TOML --for box.request, then come back with the stick")
    return DONE


def run_verify(arguments: argparse.Namespace) -> int:
    """Exit code 1 when the transcript is not what it claims to be."""
    from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
    from provisioning.ceremony.transcript import TRANSCRIPT_BYTES_MAX, verify_transcript
    from provisioning.verify.wording import printable

    file = read_named(arguments.file, TRANSCRIPT_BYTES_MAX)
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    try:
        transcript = verify_transcript(file, trust)
    except Rejected as refusal:
        if arguments.json:
            print_json({"ok": False, "code": refusal.code, "detail": refusal.detail})
        else:
            print(f"The transcript is not genuine: {printable(refusal.detail)} ({refusal.code})")
        return NO
    if arguments.json:
        print_json({"ok": True, "kind": transcript.kind, "origin": transcript.origin, "steps": transcript.steps})
        return DONE
    print(f"The transcript is genuine: {transcript.kind} of {printable(transcript.origin)}, signed by its log's keys.")
    for step in transcript.steps:
        print(f"  {printable(str(step['name']))}")
        for name, fact in step["facts"].items():
            shown = printable(str(fact))
            print(f"    {printable(str(name))}: {shown if len(shown) <= 160 else shown[:160] + '...'}")
    return DONE


@contextmanager
def _in_words() -> Iterator[None]:
    """Devices and boxes that fail, as a sentence with what to do next."""
    from drivers.hsm.errors import HsmError
    from drivers.tpm.errors import TpmError
    from provisioning.box import BoxFailed
    from provisioning.ceremony.site_check import SiteRefused
    from provisioning.swtpm import SwtpmError
    from provisioning.token import TokenFailed

    try:
        yield
    except SiteRefused as refusal:
        for fault in refusal.faults:
            print(f"  {fault.place}: {fault.reason}", file=sys.stderr)
        count = len(refusal.faults)
        raise CannotDo(
            f"what the owner signed cannot be used, for {count} reason{'s' if count != 1 else ''} (site_refused);"
            " nothing was changed",
            "put all of that right on the owner's computer and sign again",
        ) from refusal
    except (BoxFailed, SwtpmError, TokenFailed, TpmError, HsmError) as trouble:
        raise CannotDo(
            str(trouble), "put that right, then run the same command again: it goes on where it was"
        ) from trouble
