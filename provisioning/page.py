"""`tillstone page`: one HTML file at which customers check their slips, for whoever serves the shop's web pages.

Owns putting the page together. Must never put in a key that the owner did not vouch for: the trust file is verified
whole, with both signatures of the owner.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from appliance.ledger.log_keys import KeyPeriod, LogKeys
from appliance.ledger.trust import TRUST_BYTES_MAX, Trust, load_trust
from appliance.model.money import EXPONENTS
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, CannotDo

SOURCES: Final = Path(__file__).parent.parent / "web_ui" / "verify"
_EVER: Final = 2**53 - 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`page --trust FILE --shop NAME -o FILE`."""
    parser = subparsers.add_parser("page", description="Write the page at which customers check their slips.")
    parser.add_argument("--trust", type=Path, metavar="FILE", required=True, help="trust.json: the owner and the logs")
    parser.add_argument("--shop", required=True, metavar="NAME", help="the shop's name, as customers know it")
    parser.add_argument("--zone", default="UTC", metavar="ZONE", help="IANA zone of the times (default: %(default)s)")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", required=True, help="where to write the page")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it and say what to do with it."""
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    page = make_page(shop_facts(trust, arguments.shop, arguments.zone))
    try:
        arguments.output.write_text(page)
    except OSError as cause:
        raise CannotDo(f"{arguments.output} cannot be written: {cause.strerror}", "name another file") from cause
    print(
        f"Kept: {arguments.output} ({len(page.encode())} bytes). Serve it over https as index.html of a folder, and put"
    )
    print("that folder's address into the box's settings as slip.page_url. Hang this fingerprint up in the shop:")
    print(f"\n    {trust.owner.fingerprint}\n")
    return DONE


def shop_facts(trust: Trust, name: str, zone: str) -> dict[str, Any]:
    """What the page knows: the owner's fingerprint, each log with its classical keys, digits of currencies."""
    return {
        "name": name,
        "owner": trust.owner.fingerprint,
        "digits": {code: digits for code, digits in EXPONENTS.items() if digits != 2},
        "logs": [
            {
                "id": log_id.hex(),
                "origin": statement.origin,
                "zone": zone,
                "keys": [_key(trust.keys[log_id], period) for period in trust.keys[log_id].periods],
            }
            for log_id, statement in trust.logs.items()
        ],
    }


def make_page(shop: dict[str, Any] | None) -> str:
    """The one file; `shop` None knows nobody, and calls no slip genuine."""
    try:
        frame, style, *scripts = [
            (SOURCES / name).read_text() for name in ("index.html", "check.css", "check.js", "show.js")
        ]
    except OSError as cause:
        raise CannotDo(f"the page's sources are not here: {cause}", "run it from a checkout") from cause
    script = "\n".join(scripts)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    facts = json.dumps(shop, ensure_ascii=True).replace("<", "\\u003c")
    parts = {"policy": policy, "style": style, "shop": facts, "script": script}
    return re.sub(r"\{(policy|style|shop|script)\}", lambda mark: parts[mark[1]], frame)


def _key(keys: LogKeys, period: KeyPeriod) -> dict[str, Any]:
    classical, post_quantum = period.keys.classical, period.keys.post_quantum
    broken = [each.size for each in keys.distrusted if each.key_id in (classical.key_id, post_quantum.key_id)]
    return {
        "from": period.first_size,
        "kid": classical.key_id.hex(),
        "algorithm": classical.algorithm,
        "spki": base64.b64encode(classical.public_key).decode(),
        "trustedTo": min(broken, default=_EVER),
    }


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
