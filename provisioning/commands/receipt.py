"""`tillstone receipt`: a payment as paper has it, from the box, or from the receipt file of an answer alone.

Owns arguments and exit codes. What a slip says is `appliance/slip`'s; from a file it says only what was verified.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from provisioning.commands.folder import add_box
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.status import box_of

_WIDTH_DEFAULT: Final = 42


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`receipt KEY` asks the box; `receipt --file FILE --trust FILE` needs none."""
    parser = subparsers.add_parser("receipt", description="Print what the log says of a payment, for people.")
    parser.add_argument("key", metavar="KEY", nargs="?", help="the payment's key, or its refund's")
    add_box(parser)
    parser.add_argument("--file", type=Path, metavar="FILE", help="read this receipt file instead of asking the box")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="with --file: trust.json, the owner that you pin")
    parser.add_argument("--shop", metavar="NAME", help="with --file: the shop's name (default: the owner's in the log)")
    parser.add_argument("--zone", default="UTC", metavar="ZONE", help="with --file: IANA zone (default: %(default)s)")
    parser.add_argument("--page-url", default="", metavar="URL", help="with --file: the page that checks slips")
    parser.add_argument("--width", type=int, default=_WIDTH_DEFAULT, metavar="N", help="columns (default: %(default)s)")
    parser.add_argument("--print", action="store_true", help="print a copy on the box's printer")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="write it to this file")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the slip, or write it."""
    if (arguments.key is None) == (arguments.file is None):
        raise CannotDo("name a payment's key, or a receipt file with --file", "tillstone receipt --help")
    if arguments.print:
        return _print(arguments)
    told = _from_file(arguments) if arguments.key is None else box_of(arguments).slip(arguments.key, arguments.width)
    if arguments.output is not None:
        try:
            arguments.output.write_text(told["text"])
        except OSError as cause:
            raise CannotDo(f"{arguments.output} cannot be written: {cause.strerror}", "name another file") from cause
    if arguments.json:
        print_json(told)
    elif arguments.output is None:
        print(told["text"], end="")
    return DONE


def _print(arguments: argparse.Namespace) -> int:
    if arguments.key is None:
        raise CannotDo("the box prints what it holds itself", "name the payment's key")
    answer = box_of(arguments).print_slip(arguments.key)
    if arguments.json:
        print_json(answer)
    else:
        print(f"A copy waits for the printer, which is {(answer['printer'] or 'not looked at yet').replace('_', ' ')}.")
    return DONE


def _from_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """The slip of a receipt file that verifies. The modules are heavy, and only this way needs them."""
    from appliance.ledger.receipt import RECEIPT_BYTES_MAX, verify_receipt
    from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
    from appliance.slip.layout import Proof, lay_out
    from appliance.slip.paper_text import zone_of
    from appliance.slip.plain import plain_text
    from appliance.slip.reader import why_no_code, with_code
    from appliance.slip.slip import ShopFace, read_slip

    if arguments.trust is None:
        raise CannotDo("a receipt file proves nothing without a trust file", "name it with --trust")
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    file = read_named(arguments.file, RECEIPT_BYTES_MAX)
    verified = verify_receipt(file, trust.keys)
    origin = trust.logs[verified.log_id].origin
    slip = read_slip(verified.entries, [disclosure for _, disclosure in verified.disclosures])
    missing = why_no_code(slip, verified.entries, arguments.page_url)
    proof = with_code(origin, arguments.page_url, file) if missing is None else Proof(log=origin, missing=missing)
    face = ShopFace(name=arguments.shop or origin.split("/")[0], zone=zone_of(arguments.zone))
    page = lay_out(slip, face, proof, width=arguments.width, is_copy=True)
    return {
        "key": slip.key,
        "standing": slip.standing.value,
        "seq": slip.entry_seq,
        "entry_hash": slip.entry_hash.hex(),
        "link": proof.link,
        "text": plain_text(page, width=arguments.width),
    }
