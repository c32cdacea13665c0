"""`tillstone export log|sqlite`: the log for others to verify, and the same as tables for an auditor.

Owns arguments and exit codes: 0 written, 1 the log is not what it should be and nothing was written, 2 it could not be
done.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from appliance.ledger.receipt import RECEIPT_BYTES_MAX
from appliance.model.errors import TillstoneError
from provisioning.commands.folder import add_box, log_folder
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json
from provisioning.verify.wording import printable

if TYPE_CHECKING:
    from appliance.ledger.log_keys import LogKeys
    from appliance.ledger.receipt import SignedHead
    from provisioning.exports.source import Source
    from provisioning.verify.progress import Progress

Facts: TypeAlias = dict[str, str | int]
"""What was written: entries, log and root, and what vouches for them."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`export log [--dir DIR] -o FILE` and `export sqlite [--dir DIR | --log FILE] -o FILE`."""
    parser = subparsers.add_parser("export", description="Give the log to others: as a file that proves, or as tables.")
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    to_prove = "Write the whole log as one file that `tillstone verify log` checks."
    log = kinds.add_parser("log", help="one file that proves", description=to_prove)
    add_box(log)
    log.add_argument("--receipt", type=Path, metavar="FILE", help="end at this receipt's head; else the box is asked")
    _add_output(log)
    log.set_defaults(run=run_log)
    to_read = "Write the log as typed tables with full-text search."
    sqlite = kinds.add_parser("sqlite", help="tables for an auditor", description=to_read)
    source = sqlite.add_mutually_exclusive_group()
    add_box(source)
    source.add_argument("--log", type=Path, metavar="FILE", help="an exported log; needs --trust")
    sqlite.add_argument("--trust", type=Path, metavar="FILE", help="trust.json: the owner that you pin")
    _add_output(sqlite)
    sqlite.set_defaults(run=run_sqlite)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="a new file")
    add_json(parser)


def run_log(arguments: argparse.Namespace) -> int:
    """Write one exported log."""
    from provisioning.exports.log_file import PROOF_OF_LOG, export_log
    from provisioning.exports.signed_head import head_of, newest_head

    folder = log_folder(arguments.dir)
    receipt: bytes | None = None if arguments.receipt is None else read_named(arguments.receipt, RECEIPT_BYTES_MAX)

    def find_head(keys: LogKeys) -> SignedHead:
        return newest_head(folder, keys) if receipt is None else head_of(receipt, keys)

    def export(progress: Progress) -> Facts:
        head = export_log(folder, arguments.output, find_head, progress)
        return {"entries": head.size, "log": head.log_id.hex(), "root": head.root.hex(), "proof": PROOF_OF_LOG}

    return _told(export, arguments)


def run_sqlite(arguments: argparse.Namespace) -> int:
    """Write one auditor's file."""
    from provisioning.exports.sqlite_file import export_sqlite

    def export(progress: Progress) -> Facts:
        source, proof = _source(arguments, progress)
        written = export_sqlite(arguments.output, source, proof)
        log = written.log
        log_id = "" if log.log_id is None else log.log_id.hex()
        return {
            "entries": log.size,
            "log": log_id,
            "root": log.root.hex(),
            "problems": written.problems,
            "proof": proof,
        }

    return _told(export, arguments)


def _source(arguments: argparse.Namespace, progress: Progress) -> tuple[Source, str]:
    """Where the entries come from, and what vouches for them."""
    from appliance.ledger.trust import load_trust
    from provisioning.exports.source import from_file, from_folder, proof_of_file, proof_of_folder

    trust = None if arguments.trust is None else load_trust(read_named(arguments.trust, RECEIPT_BYTES_MAX))
    if arguments.log is None:
        return from_folder(log_folder(arguments.dir), trust, progress), proof_of_folder(trust)
    if trust is None:
        raise CannotDo("an exported log is read with the owner that you pin", "name the trust file: --trust FILE")
    return from_file(arguments.log, trust, progress), proof_of_file(trust)


def _told(export: Callable[[Progress], Facts], arguments: argparse.Namespace) -> int:
    from provisioning.verify.progress import watch

    started = time.perf_counter()
    try:
        with watch("exporting", is_shown=sys.stderr.isatty() and not arguments.json) as progress:
            facts = export(progress)
    except TillstoneError as refusal:
        if arguments.json:
            print_json({"ok": False, "code": refusal.code, "detail": printable(refusal.detail)})
        else:
            print(f"nothing was written: {printable(refusal.detail)} ({refusal.code})", file=sys.stderr)
        return NO
    except OSError as cause:
        raise CannotDo(f"a file cannot be read: {cause}", "check the names of the files") from cause
    seconds = round(time.perf_counter() - started, 3)
    if arguments.json:
        print_json({"ok": True, "code": None, "output": str(arguments.output), **facts, "seconds": seconds})
    else:
        print(f"{arguments.output}: {facts['entries']:,} entries in {seconds:.1f} s; {facts['proof']}")
    return DONE
