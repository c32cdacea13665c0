"""`tillstone verify receipt|log|bundle|checkpoint|proof|fork`: for a stranger with file, trust file and nothing else.

Owns arguments and exit codes: 0 genuine, 1 not, 2 it could not be looked at. Must never import a driver, a door of the
appliance or a vendor's library (tests/integration/test_verify_command.py proves it).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.evidence.bundle import BUNDLE_BYTES_MAX, HEADERS_MAX
from appliance.ledger.checkpoint import NOTE_BYTES_MAX
from appliance.ledger.receipt import RECEIPT_BYTES_MAX
from appliance.ledger.tlog import PROOF_BYTES_MAX
from appliance.ledger.trust import TRUST_BYTES_MAX
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json

_PARTS = {"witnesses": "witnesses", "block": "Bitcoin block", "publication": "publication"}
"""What may be demanded of a bundle, and its name in the report."""

if TYPE_CHECKING:
    from provisioning.verify.report import Report


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`verify receipt FILE`, `bundle`, `log`, `checkpoint`, `proof`, and `fork FILE FILE`, each with `--trust FILE`."""
    parser = subparsers.add_parser("verify", description="Check what a box gave out, without the box.")
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    receipt = _add(kinds, "receipt", "Check a receipt and say what it proves.")
    receipt.add_argument("file", type=Path, metavar="FILE", help="the receipt, as the terminal got it")
    _add_trust(receipt)
    receipt.add_argument(
        "--second-opinion", choices=("oqs",), help="check the post-quantum signature with liboqs as well"
    )
    receipt.set_defaults(run=run_receipt)
    log = _add(kinds, "log", "Check a whole log from its first entry and name the first bad one.")
    log.add_argument("path", type=Path, metavar="PATH", help="an exported log, or the folder of a ledger")
    _add_trust(log)
    log.add_argument("--bodies", action="store_true", help="also read the body of every entry (slower)")
    log.add_argument("--tables", action="store_true", help="of a stopped box's folder: also replay its tables (slower)")
    log.set_defaults(run=run_log)
    _add_bundle(kinds)
    _add_checkpoint(kinds)
    fork = _add(kinds, "fork", "Check whether two receipts or checkpoints prove a forked log.")
    fork.add_argument("files", type=Path, nargs=2, metavar="FILE", help="a receipt or a checkpoint")
    _add_trust(fork)
    fork.set_defaults(run=run_fork)


def _add_checkpoint(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    checkpoint = _add(kinds, "checkpoint", "Check a checkpoint: what `/checkpoint` gives.")
    checkpoint.add_argument("file", type=Path, metavar="FILE", help="a signed note (C2SP), with or without witnesses")
    _add_trust(checkpoint)
    checkpoint.set_defaults(run=run_checkpoint)
    proof = _add(kinds, "proof", "Check a proof of one entry: what `tillstone ledger proof` gives.")
    proof.add_argument("file", type=Path, metavar="FILE", help="a tlog-proof (C2SP)")
    proof.add_argument(
        "--receipt", type=Path, metavar="FILE", help="holds the entry; for a proof of the public door, which does not"
    )
    _add_trust(proof)
    proof.set_defaults(run=run_proof)


def _add(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], name: str, meaning: str
) -> argparse.ArgumentParser:
    return kinds.add_parser(name, help=meaning[0].lower() + meaning[1:-1], description=meaning)


def _add_bundle(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bundle = _add(kinds, "bundle", "Check an evidence bundle and tell its story in order of time.")
    bundle.add_argument("file", type=Path, metavar="FILE", help="the bundle, as `tillstone evidence` made it")
    _add_trust(bundle)
    bundle.add_argument(
        "--require",
        action="append",
        default=[],
        choices=tuple(_PARTS),
        help="fail when this part is missing; may be repeated",
    )
    bundle.add_argument(
        "--confirmations",
        type=_count,
        metavar="N",
        help="require a block, with at least N-1 on top of it (default with `--require block`: 6)",
    )
    bundle.add_argument(
        "--witness", action="append", default=[], metavar="VKEY", help="believe this witness too (C2SP verifier key)"
    )
    bundle.add_argument("--needed", type=int, default=None, metavar="N", help="how many witnesses must have signed")
    bundle.add_argument(
        "--network",
        choices=("mainnet", "testnet", "regtest"),
        help="chain of the block headers (default: what the trust file says, else mainnet)",
    )
    bundle.set_defaults(run=run_bundle)


def run_receipt(arguments: argparse.Namespace) -> int:
    """Check one receipt file."""
    from provisioning.verify.kinds import RECEIPT, require_kind
    from provisioning.verify.receipt_check import check_receipt
    from provisioning.verify.second_opinion import load

    opinion = load() if arguments.second_opinion else None
    file = read_named(arguments.file, RECEIPT_BYTES_MAX)
    require_kind(file, RECEIPT, arguments.file, arguments.trust)
    report = check_receipt(file, read_named(arguments.trust, TRUST_BYTES_MAX), opinion)
    return _answer(report, "The receipt", is_json=arguments.json)


def run_log(arguments: argparse.Namespace) -> int:
    """Check one exported log or ledger folder."""
    from provisioning.verify.kinds import LOG, require_kind
    from provisioning.verify.log_check import check_log
    from provisioning.verify.progress import watch

    trust_file = read_named(arguments.trust, TRUST_BYTES_MAX)
    if not arguments.path.is_dir():
        require_kind(read_named(arguments.path, NOTE_BYTES_MAX), LOG, arguments.path, arguments.trust)
    with watch("verifying", is_shown=sys.stderr.isatty() and not arguments.json) as progress:
        report = check_log(
            arguments.path, trust_file, progress, check_bodies=arguments.bodies, check_tables=arguments.tables
        )
    return _answer(report, "The log", is_json=arguments.json)


def run_bundle(arguments: argparse.Namespace) -> int:
    """Check one evidence bundle."""
    from provisioning.verify.block_words import CONFIRMATIONS_WANTED
    from provisioning.verify.bundle_check import BLOCK, Wanted, check_bundle, demand_of
    from provisioning.verify.kinds import BUNDLE, require_kind

    trust_file = read_named(arguments.trust, TRUST_BYTES_MAX)
    demand = demand_of(trust_file, arguments.witness, arguments.needed, arguments.network)
    required = [_PARTS[name] for name in arguments.require]
    if arguments.confirmations is not None:
        required.append(BLOCK)
    wanted = Wanted(
        required=required,
        confirmations=arguments.confirmations or CONFIRMATIONS_WANTED,
        now_ms=time.time_ns() // 1_000_000,
    )
    file = read_named(arguments.file, BUNDLE_BYTES_MAX)
    require_kind(file, BUNDLE, arguments.file, arguments.trust)
    report = check_bundle(file, trust_file, demand, wanted)
    return _answer(report, "The evidence", is_json=arguments.json)


def run_checkpoint(arguments: argparse.Namespace) -> int:
    """Check one checkpoint."""
    from provisioning.verify.checkpoint_check import check_checkpoint
    from provisioning.verify.kinds import CHECKPOINT, require_kind

    file = read_named(arguments.file, NOTE_BYTES_MAX)
    require_kind(file, CHECKPOINT, arguments.file, arguments.trust)
    report = check_checkpoint(file, read_named(arguments.trust, TRUST_BYTES_MAX))
    return _answer(report, "The checkpoint", is_json=arguments.json)


def run_proof(arguments: argparse.Namespace) -> int:
    """Check one proof, of the entry that it holds or that a receipt holds."""
    from provisioning.verify.checkpoint_check import check_proof
    from provisioning.verify.kinds import PROOF, require_kind
    from provisioning.verify.outline import claimed_entry, lacks_entry

    file = read_named(arguments.file, PROOF_BYTES_MAX)
    require_kind(file, PROOF, arguments.file, arguments.trust)
    entry: bytes | None = None
    if arguments.receipt is not None:
        entry = claimed_entry(read_named(arguments.receipt, RECEIPT_BYTES_MAX), file)
        if entry is None:
            raise CannotDo(f"{arguments.receipt} does not hold the entry of this proof", "name another receipt")
    elif lacks_entry(file):
        raise CannotDo(
            "the proof does not hold the entry itself, as those of the public door",
            "name the receipt that does: --receipt FILE",
        )
    report = check_proof(file, read_named(arguments.trust, TRUST_BYTES_MAX), entry)
    return _answer(report, "The proof", is_json=arguments.json)


def run_fork(arguments: argparse.Namespace) -> int:
    """Compare two files that the log's keys signed; 0 when they prove a fork."""
    from provisioning.verify.fork_check import check_fork

    first, second = (read_named(path, RECEIPT_BYTES_MAX) for path in arguments.files)
    report = check_fork(first, second, read_named(arguments.trust, TRUST_BYTES_MAX))
    return _answer(report, "The fork", is_json=arguments.json)


def _answer(report: Report, title: str, *, is_json: bool) -> int:
    from provisioning.verify.report import show, to_json

    if is_json:
        print(to_json(report))
    else:
        show(report, title)
    return DONE if report.ok else NO


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", type=Path, metavar="FILE", required=True, help="trust.json: the owner that you pin")
    add_json(parser)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= HEADERS_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {HEADERS_MAX}, saw {text}")
    return int(text)
