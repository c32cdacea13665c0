"""`tillstone evidence ID -o FILE`: everything that a stranger needs to check one payment, in one file.

Owns the words on the screen. The bundle is the box's; `tillstone verify bundle` checks it without the box.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.evidence.bundle import EvidenceBundle, read_bundle
from appliance.evidence.cid import cid_text, dag_cbor_cid
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.terminal.durable import write_durably


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`evidence ID -o FILE [--timestamp FILE] [--json]`."""
    parser = subparsers.add_parser("evidence", description="Gather what proves a payment to a stranger, in one file.")
    parser.add_argument("id", metavar="ID", help="the payment's key (a UUID), or the number of one entry")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="where the bundle goes")
    parser.add_argument(
        "--timestamp", type=Path, metavar="FILE", help="also write the .ots file and, as FILE without .ots, its note"
    )
    add_json(parser)
    add_box(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the box, write the file, say what is in it and what is not."""
    asked: str = arguments.id
    door = box_of(arguments)
    file = door.evidence(seq=int(asked)) if asked.isascii() and asked.isdecimal() else door.evidence(key=asked)
    bundle = read_bundle(file)
    write_durably(arguments.output, file)
    if arguments.timestamp is not None:
        _write_timestamp(bundle, arguments.timestamp)
    facts = _facts(bundle)
    if arguments.json:
        print_json({"file": str(arguments.output), "bytes": len(file), **facts})
        return DONE
    print(f"{arguments.output}: {len(file):,} bytes\n")
    for name, said in facts.items():
        print(f"  {name:<12} {said or 'nothing yet'}")
    print(f"\nCheck it anywhere:\n\n    tillstone verify bundle {arguments.output} --trust trust.json\n")
    return DONE


def _facts(bundle: EvidenceBundle) -> dict[str, str]:
    """What each part rests on; empty when it is missing."""
    witnesses = {line.split(b" ")[1].decode() for head in bundle.heads for line in head.cosignatures.splitlines()}
    stamped = [head for head in bundle.heads if head.timestamp is not None]
    published = [cid_text(dag_cbor_cid(head.publication.root)) for head in bundle.heads if head.publication is not None]
    headers = max([len(head.headers) for head in stamped], default=0)
    return {
        "receipt": f"{len(bundle.receipt):,} bytes",
        "witnesses": ", ".join(sorted(witnesses)),
        "block": f"an OpenTimestamps proof and {headers} headers" if stamped else "",
        "publication": ", ".join(published),
    }


def _write_timestamp(bundle: EvidenceBundle, file: Path) -> None:
    stamped = next((head for head in bundle.heads if head.timestamp is not None), None)
    if stamped is None or stamped.timestamp is None:
        raise CannotDo("the bundle has no timestamp yet", "wait for the block, then ask again")
    write_durably(file, stamped.timestamp)
    write_durably(file.with_suffix(""), stamped.note)
