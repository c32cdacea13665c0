"""`tillstone pay`: sell once from till-1 through the typed client and keep the receipt.

Owns the wording and the two files: `build/receipt.cbor` and `build/trust.json`. Exit code 1 when the sale was declined.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import AMOUNT_MINOR_MAX
from appliance.model.money import Money, exponent
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.commands.folder import add_sandbox
from provisioning.commands.outcome import DONE, NO, CannotDo, print_json
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import TILLS, SandboxFolder
from provisioning.sandbox.screen import PROGRAM
from provisioning.sandbox.tills import open_till
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome

BUILD: Final = Path("build")
PAY_MS_MAX: Final = 45_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`pay [--cash | --card] [--amount] [--json] [--dir]`."""
    parser = subparsers.add_parser("pay", description="Sell once from till-1 of the sandbox and keep the receipt.")
    tender = parser.add_mutually_exclusive_group()
    tender.add_argument("--cash", dest="tender", action="store_const", const="cash", help="the default")
    tender.add_argument("--card", dest="tender", action="store_const", const="card", help="through the Stripe twin")
    parser.add_argument("--source", help="the card: a payment method of Stripe, such as pm_card_visa_chargeDeclined")
    parser.add_argument("--amount", default="12.50", help="in the shop's currency (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_sandbox(parser)
    parser.set_defaults(run=run, tender="cash")


def run(arguments: argparse.Namespace) -> int:
    """Sell at the running sandbox, or at one that is opened for this sale alone."""
    if arguments.source is not None and arguments.tender != "card":
        raise CannotDo("--source names a card, and this is a sale for cash", "add --card")
    folder = SandboxFolder.at(arguments.dir)
    began = time.monotonic()
    with sandbox_for_a_while(folder, "--ports-from", "0") as was_running:
        if not was_running and not arguments.json:
            print(f"No sandbox was running: one was opened for this sale ({time.monotonic() - began:.1f} s).")
        home = folder.till(TILLS[0])
        began = time.monotonic()
        answer = asyncio.run(sell(home, tender=arguments.tender, amount=arguments.amount, source=arguments.source))
        took_ms = (time.monotonic() - began) * 1000
    is_kept = _keep(answer, home)
    if arguments.json:
        print_json(answer)
    else:
        _tell(answer, took_ms, is_kept, home)
    return DONE if answer.state == "approved" else NO


async def sell(home: TerminalHome, *, tender: str, amount: str, source: str | None = None) -> PaymentAnswer:
    """One sale of `amount`, followed until it is final and proven, or the time is up.

    Raises:
        CannotDo: the box refused, could not be asked, or nobody knows.
    """
    currency = home.profile().currency
    amount_minor = minor_units(amount, currency)
    tenders = (TenderBody(kind="card" if tender == "card" else "cash", amount_minor=amount_minor, source=source),)
    body = PaymentBody(currency=currency, tenders=tenders, amount_minor=amount_minor)
    async with open_till(home) as client:
        key = client.new_key()
        try:
            return await client.payment(body, key=key, deadline=client.deadline(PAY_MS_MAX))
        except Rejected as refusal:
            raise CannotDo(f"the box refused: {refusal.detail} ({refusal.code})", f"{PROGRAM} status") from refusal
        except Unavailable as trouble:
            raise CannotDo(f"no money moved: {trouble.detail} ({trouble.code})", f"{PROGRAM} status") from trouble
        except OutcomeUnknown as trouble:
            raise CannotDo(
                f"it may have happened under key {key}: {trouble.detail} ({trouble.code})", f"{PROGRAM} status"
            ) from trouble


def minor_units(amount: str, currency: str) -> int:
    """12.50 in the currency's smallest unit. Raises CannotDo."""
    try:
        scaled = Decimal(amount).scaleb(exponent(currency))
    except InvalidOperation:
        scaled = Decimal("NaN")
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        digits = exponent(currency)
        raise CannotDo(f"{amount} is no amount in {currency}, which has {digits} digits", "--amount 12.50")
    if not 0 < scaled <= AMOUNT_MINOR_MAX:
        raise CannotDo(f"{amount} {currency} is no amount to sell for", "--amount 12.50")
    return int(scaled)


def _keep(answer: PaymentAnswer, home: TerminalHome) -> bool:
    BUILD.mkdir(exist_ok=True)
    write_durably(BUILD / "trust.json", home.trust_file.read_bytes())
    if answer.receipt is None:
        return False
    write_durably(BUILD / "receipt.cbor", answer.receipt)
    return True


def _tell(answer: PaymentAnswer, took_ms: float, is_kept: bool, home: TerminalHome) -> None:
    from appliance.ledger.receipt import verify_receipt
    from appliance.ledger.trust import load_trust

    total = Money(answer.total_minor, answer.currency)
    because = f" ({answer.code})" if answer.code else ""
    print(f"\n{total}: {answer.state.replace('_', ' ')}{because}, {took_ms:.0f} ms from till to receipt and back.\n")
    if answer.receipt is None or not is_kept:
        print("The result is durable; its signature is still to come. Ask again later: the key is", answer.key)
        return
    trust = load_trust(home.trust_file.read_bytes())
    verified = verify_receipt(answer.receipt, trust.keys)
    print(f"  recorded   as entry {max(entry.seq for entry in verified.entries)} of log {verified.log_id.hex()[:16]}")
    print(f"  proven     by a path of hashes to the root over all {verified.size} entries: {verified.root.hex()[:16]}")
    print("  signed     that root twice: by a key inside the HSM, and by ML-DSA-87 against quantum computers")
    print(f"  pinned     to the owner's key {trust.owner.fingerprint[:16]}, which signed the log's first entry")
    print(f"\nKept: {BUILD / 'receipt.cbor'} ({len(answer.receipt)} bytes) and {BUILD / 'trust.json'}.")
    print("Whoever has these two files can check the sale, without this machine or a network:\n")
    print(f"    {PROGRAM} verify receipt {BUILD / 'receipt.cbor'} --trust {BUILD / 'trust.json'}\n")
