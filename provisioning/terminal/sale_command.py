"""One sale from the command line, as one line of JSON: what `tillstone conform` starts to score our own client.

Owns the words of the result: approved, declined, refused (no money moved), unknown. Must never say that a sale failed
when it may have happened.

    python -m provisioning.terminal.sale_command --home DIR --amount-minor 1250 --deadline-ms 5000
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Final

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.runtime.clock import SystemClock
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.terminal.client import TerminalClient, open_terminal
from provisioning.terminal.home import TerminalHome
from provisioning.terminal.signing import Encoding

_RESULTS: Final = {
    "approved": "approved",
    "declined": "declined",
    "being_checked": "unknown",
    "not_charged": "declined",
    "authorised": "approved",
    "accepted_offline": "approved",
    "declined_after_handover": "declined",
    "expired": "declined",
    "partly_refunded": "approved",
    "refunded": "declined",
    "reversed": "declined",
    "cancelled": "declined",
}
ENCODINGS: Final = {"cose": Encoding.COSE, "jws": Encoding.JWS}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make one sale and print its result as a line of JSON.")
    parser.add_argument("--home", type=Path, required=True, help="folder of a paired terminal")
    parser.add_argument("--amount-minor", type=int, required=True)
    parser.add_argument("--deadline-ms", type=int, default=15_000)
    parser.add_argument("--tender", choices=("cash", "card", "voucher", "card_stated"), default="cash")
    parser.add_argument("--source", help="where the card is")
    parser.add_argument("--key", help="the key of a sale that is to be tried again")
    parser.add_argument("--encoding", choices=sorted(ENCODINGS), default="cose")
    print(json.dumps(asyncio.run(_sell(parser.parse_args()))))


async def _sell(arguments: argparse.Namespace) -> dict[str, str]:
    home = TerminalHome(folder=arguments.home)
    async with open_terminal(home, clock=SystemClock(), encoding=ENCODINGS[arguments.encoding]) as client:
        key = request_key(arguments.key) if arguments.key else client.new_key()
        tender = TenderBody(kind=arguments.tender, amount_minor=arguments.amount_minor, source=arguments.source)
        body = PaymentBody(currency=client.profile.currency, tenders=(tender,), amount_minor=arguments.amount_minor)
        return {"key": str(key), **await _result(client, body, key, arguments.deadline_ms)}


async def _result(client: TerminalClient, body: PaymentBody, key: RequestKey, deadline_ms: int) -> dict[str, str]:
    try:
        answer = await client.payment(body, key=key, deadline=client.deadline(deadline_ms))
    except (Rejected, Unavailable) as refusal:
        return {"result": "refused", "code": refusal.code, "detail": refusal.detail}
    except OutcomeUnknown as doubt:
        return {"result": "unknown", "code": doubt.code, "detail": doubt.detail}
    return {"result": _word(answer), "code": answer.code or ""}


def _word(answer: PaymentAnswer) -> str:
    """Approved takes its proof: without a receipt it is still being checked."""
    return "unknown" if answer.pending else _RESULTS[answer.state]


if __name__ == "__main__":
    main()
