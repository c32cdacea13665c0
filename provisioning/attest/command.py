"""`tillstone attest verify|quote|request|install`: what runs on a box, and the owner's word for who says so.

Owns arguments, words and exit codes: 0 believed, 1 not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.evidence.release import RELEASE_BYTES_MAX
from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from provisioning.commands.folder import add_sandbox
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json

if TYPE_CHECKING:
    from appliance.wire.attestation import Attestation
    from provisioning.attest.check import Demand

_DOOR_MS_MAX: Final = 10_000
_REQUEST: Final = "attestation.request"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Four actions."""
    parser = subparsers.add_parser("attest", description="Ask what runs on a box, and judge what its TPM says.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="ask a box with a new nonce, and judge the answer; or a saved answer")
    verify.add_argument("source", metavar="URL|FILE", help="the public door (http://...:9080), or attestation.json")
    verify.add_argument("--trust", type=Path, metavar="FILE", required=True, help="trust.json: the owner that you pin")
    verify.add_argument(
        "--release", type=Path, metavar="FILE", action="append", default=[],
        help="what may run, as the owner signed it; several times for several releases",
    )  # fmt: skip
    verify.add_argument("--door", metavar="URL", help="the terminals' door: compare its certificate with the quote's")
    verify.add_argument("--nonce", metavar="HEX", help="with which a saved answer was asked for")
    verify.set_defaults(run=run_verify)
    quote = actions.add_parser("quote", help="ask a box, and save what tpm2_checkquote of tpm2-tools reads")
    quote.add_argument("url", metavar="URL", help="the public door")
    quote.add_argument("-o", "--output", type=Path, metavar="DIR", required=True)
    quote.set_defaults(run=run_quote)
    request = actions.add_parser("request", help="of a stopped box: ask the owner for his word on its attestation key")
    request.set_defaults(run=run_request)
    install = actions.add_parser("install", help="of a stopped box: have its TPM open what the owner gave")
    install.add_argument("sealed", type=Path, metavar="FILE", help="attestation.sealed")
    install.set_defaults(run=run_install)
    for action in (request, install):
        add_sandbox(action)
    for action in actions.choices.values():
        add_json(action)


def run_verify(arguments: argparse.Namespace) -> int:
    """Judge, tell, and remember the TPM's counts when it was believed."""
    from provisioning.attest.counts import counts_file, keep_counts
    from provisioning.attest.report import judged
    from provisioning.verify.report import show, to_json

    counts = counts_file(arguments.trust)
    said, demand = _asked(arguments, counts)
    attested, report = judged(said, demand)
    if attested is not None:
        keep_counts(counts, attested.key_name, attested.quote.counts)
    if arguments.json:
        print(to_json(report))
    else:
        show(report, "The attestation")
    return DONE if report.ok else NO


def run_quote(arguments: argparse.Namespace) -> int:
    """Ask and save."""
    from provisioning.attest.saved import ANSWER, save
    from provisioning.attest.source import ask, is_url, new_nonce

    if not is_url(arguments.url):
        raise CannotDo(f"{arguments.url} is no address of a door", "for example http://127.0.0.1:9080")
    nonce = new_nonce()
    command = save(ask(arguments.url, nonce), arguments.output)
    if arguments.json:
        print_json({"answer": str(arguments.output / ANSWER), "nonce": nonce.hex(), "tpm2_checkquote": list(command)})
        return DONE
    print(f"{arguments.output / ANSWER}: the answer to nonce {nonce.hex()}\n\n  {' '.join(command)}")
    return DONE


def run_request(arguments: argparse.Namespace) -> int:
    """Write `attestation.request`."""
    from datetime import UTC, datetime

    from provisioning.attest.certify import make_request
    from provisioning.attest.own_box import log_of
    from provisioning.commands.stopped import stopped_box
    from provisioning.owner.statements import describe
    from provisioning.terminal.durable import write_durably

    with stopped_box(arguments) as box:
        request = make_request(box.bundle, log_of(box), datetime.now(UTC))
        path = box.folder / _REQUEST
        write_durably(path, request.encode())
    says = describe(request.statement)
    if arguments.json:
        print_json({"request": str(path), "says": list(says)})
        return DONE
    print("\n".join((f"{path} asks the owner to sign:", "", *(f"  {line}" for line in says))))
    print("\n  next: tillstone owner certify, on the owner's computer")
    return DONE


def run_install(arguments: argparse.Namespace) -> int:
    """Open with the TPM and keep."""
    from drivers.tpm.errors import TpmError
    from provisioning.attest.own_box import install_certificate
    from provisioning.commands.stopped import stopped_box

    sealed = read_named(arguments.sealed, TRUST_BYTES_MAX)
    try:
        with stopped_box(arguments) as box:
            install_certificate(box, sealed)
    except TpmError as trouble:
        raise CannotDo(str(trouble), "nothing was kept; see that the TPM works, then run the same command") from trouble
    if arguments.json:
        print_json({"certificate": str(box.attestation)})
        return DONE
    print(f"{box.attestation}: the TPM opened it, so it holds both keys.")
    print("  next: tpm.certificate_path names it (a sandbox writes it itself); start the box")
    return DONE


def _asked(arguments: argparse.Namespace, counts: Path) -> tuple[Attestation, Demand]:
    """The answer, and what it is judged by: the asker's own facts first, so that a mistake there costs no quote."""
    from provisioning.attest.check import Demand, read_release
    from provisioning.attest.counts import read_counts
    from provisioning.attest.source import ask, is_url, new_nonce, read_saved

    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    releases = [read_release(read_named(path, RELEASE_BYTES_MAX), trust) for path in arguments.release]
    door = None if arguments.door is None else asyncio.run(_door(arguments.door))
    known = read_counts(counts)
    if is_url(arguments.source):
        nonce = new_nonce()
        said = ask(arguments.source, nonce)
    else:
        nonce, said = _nonce(arguments.nonce), read_saved(Path(arguments.source))
    return said, Demand(trust=trust, nonce=nonce, tls_sha256=door, releases=releases, counts=known)


def _nonce(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError as cause:
        raise CannotDo("--nonce holds other characters than 0-9 and a-f", "as `attest quote` printed it") from cause


async def _door(url: str) -> bytes:
    from appliance.runtime.clock import SystemClock
    from appliance.runtime.deadline import Deadline
    from provisioning.terminal.link import peer_certificate_sha256

    return bytes.fromhex(await peer_certificate_sha256(url, Deadline.after(SystemClock(), _DOOR_MS_MAX)))
