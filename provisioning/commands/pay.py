"""`tillstone pay`: sell once from a till through the typed client and keep the receipt.

Owns what is sold: an amount, by one tender; or a part of it. Exit code 1 when the sale was neither
approved nor authorised.
"""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal, InvalidOperation
from typing import Final

from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.limits import AMOUNT_MINOR_MAX
from appliance.model.money import exponent
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody, TenderName
from provisioning.commands.answer import ASK_MS_MAX, BUILD, add_till, ask, payment_key, show, till_of
from provisioning.commands.outcome import DONE, NO, CannotDo
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient

TENDERS: Final[dict[str, TenderName]] = {
    "cash": "cash",
    "card": "card",
    "reader": "card",
    "paypal": "paypal",
    "usdc": "usdc",
    "pin_pad": "pin_pad",
    "voucher": "voucher",
    "card_stated": "card_stated",
}
"""What the door calls each."""
SHOWN: Final = frozenset({"paypal", "usdc"})
"""Where the customer pays at an address that the till shows."""
READER_MS_MAX: Final = 120_000
"""A customer may take a minute, and withdrawing takes a while."""
SHOW_MS_MAX: Final = 3_000
"""How long until the till looks whether there is something to show."""
_AMOUNT: Final = "12.50"
IN_DOUBT: Final = (
    f"do not just sell again. {PROGRAM} receipt {{key}} says how it stands, {PROGRAM} reverse {{key}} gives it up, and"
    " the same command with --retry-of {key} sells in its place"
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`pay [--cash|--card|...] [--later] [--amount] [--of-total | --part-of] [--partial] [--tip] [--retry-of]...`."""
    parser = subparsers.add_parser("pay", description="Sell once and keep the receipt; from till-1 of the sandbox.")
    _add_tenders(parser)
    parser.add_argument(
        "--source",
        help="a voucher's code, the number on the slip of card_stated, or Stripe's name for the card (pm_card_visa)",
    )
    parser.add_argument(
        "--later",
        dest="capture",
        action="store_const",
        const="later",
        help="have the card's bank hold the money; `tillstone capture` takes it",
    )
    parser.add_argument("--tip", help="added to the amount (default: none); of a card captured later, room for it")
    parser.add_argument("--amount", help=f"in the shop's currency (default: {_AMOUNT}; of --part-of: all that is open)")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--of-total", metavar="TOTAL", help="pay a part of a sale of TOTAL; --part-of pays the others")
    parts.add_argument("--part-of", metavar="KEY", help="pay a further part of the sale that began with this key")
    parser.add_argument(
        "--partial",
        action="store_const",
        const="accepted",
        help="a card may be approved for less than asked; the rest is paid by --part-of",
    )
    parser.add_argument("--customer", metavar="ID", help="who buys: a person's data in the log, which can be erased")
    parser.add_argument("--cashier", metavar="NAME", help="who sells, likewise")
    parser.add_argument(
        "--retry-of",
        metavar="KEY",
        action="append",
        default=[],
        help="a try of this sale whose result is unknown; several times to name all, the newest first: one of them"
        " keeps its money",
    )
    parser.add_argument(
        "--attested",
        action="store_true",
        help="have the box prove first, and now, what it runs; `terminal attested` demands it of every sale",
    )
    add_till(parser)
    parser.set_defaults(run=run, tender="cash", capture="at_once", partial="refused")


def _add_tenders(parser: argparse.ArgumentParser) -> None:
    tender = parser.add_mutually_exclusive_group()
    tender.add_argument("--cash", dest="tender", action="store_const", const="cash", help="the default")
    tender.add_argument("--card", dest="tender", action="store_const", const="card", help="through the Stripe twin")
    tender.add_argument(
        "--reader",
        dest="tender",
        action="store_const",
        const="reader",
        help="a card at the till's reader; in the sandbox a customer taps by himself (tillstone sandbox reader --help)",
    )
    tender.add_argument(
        "--pin-pad",
        dest="tender",
        action="store_const",
        const="pin_pad",
        help="a card at the till's PIN pad; in the sandbox a customer is there already (tillstone sandbox pad --help)",
    )
    tender.add_argument(
        "--paypal",
        dest="tender",
        action="store_const",
        const="paypal",
        help="the customer agrees at PayPal; in the sandbox by himself (tillstone sandbox payer --help)",
    )
    tender.add_argument(
        "--usdc",
        dest="tender",
        action="store_const",
        const="usdc",
        help="the customer pays USDC through Coinbase; in the sandbox by himself, likewise",
    )
    tender.add_argument(
        "--tender", choices=TENDERS, help="the same by name; card_stated: paid at a card terminal beside the till"
    )


def run(arguments: argparse.Namespace) -> int:
    """Sell at the running sandbox, or at one that is opened for this sale alone."""
    if arguments.source is not None and arguments.tender in ("cash", "reader", "pin_pad", *SHOWN):
        raise CannotDo(
            f"--source names a card, a voucher or a slip, and this is a sale by {arguments.tender}",
            "the same command without --source, or with --card in place of the other tender",
        )
    if arguments.capture == "later" and arguments.tender not in ("card", "reader"):
        raise CannotDo(
            "only a card's money is captured later",
            "the same command without --later, or with --card in place of the other tender",
        )
    part_of = None if arguments.part_of is None else payment_key(arguments.part_of)

    async def sell(client: TerminalClient, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        currency = client.profile.currency
        if arguments.attested:
            await client.require_attested(deadline, age_max_ms=0)
        if part_of is not None and arguments.amount is None:
            amount_minor = await _open_minor(client, part_of, deadline)
        else:
            amount_minor = minor_units(arguments.amount or _AMOUNT, currency)
        total_minor = amount_minor if arguments.of_total is None else minor_units(arguments.of_total, currency)
        if total_minor < amount_minor:
            raise CannotDo(
                f"a part of {arguments.amount} is more than {arguments.of_total}", "--amount 20 --of-total 50"
            )
        source = "reader" if arguments.tender == "reader" else arguments.source
        tip_minor = 0 if arguments.tip is None else minor_units(arguments.tip, currency)
        tender = TenderBody(kind=TENDERS[arguments.tender], amount_minor=amount_minor + tip_minor, source=source)
        body = PaymentBody(
            currency=currency,
            tenders=(tender,),
            amount_minor=total_minor,
            remaining_minor=total_minor - amount_minor,
            part_of=None if part_of is None else str(part_of),
            partial=arguments.partial,
            customer=arguments.customer,
            cashier=arguments.cashier,
            retry_of=tuple(arguments.retry_of),
            tip_minor=tip_minor,
            capture=arguments.capture,
        )
        if arguments.tender not in SHOWN:
            return await client.payment(body, key=key, deadline=deadline)
        return await sell_and_show(client, body, key, deadline)

    with till_of(arguments) as home:
        answered = ask(
            home,
            sell,
            receipt_file=BUILD / "receipt.cbor",
            when_in_doubt=IN_DOUBT,
            ask_ms_max=READER_MS_MAX if arguments.tender in ("reader", "pin_pad", *SHOWN) else ASK_MS_MAX,
        )
    show(answered, arguments)
    return DONE if answered.answer.state in ("approved", "authorised", "accepted_offline") else NO


async def _open_minor(client: TerminalClient, first: RequestKey, deadline: Deadline) -> int:
    """What is open of the sale that began with `first`. Raises CannotDo."""
    sale = (await client.status(first, deadline=deadline)).sale
    if sale is None or sale.key != str(first) or not sale.remaining_minor:
        raise CannotDo(
            f"nothing is open of a sale that began with {first} (sale_not_in_parts)",
            f"{PROGRAM} pay begins one with --of-total",
        )
    return sale.remaining_minor


async def sell_and_show(
    client: TerminalClient, body: PaymentBody, key: RequestKey, deadline: Deadline
) -> PaymentAnswer:
    """Sell, and say in between where the customer has to go, as a till shows its QR code."""
    is_shown = False
    while True:
        patience = deadline if is_shown else deadline.at_most(SHOW_MS_MAX)
        try:
            answer = await client.payment(body, key=key, deadline=patience)  # the same key again is the same sale
        except (OutcomeUnknown, Unavailable):
            if deadline.has_passed:
                raise
            continue
        if answer.state != "being_checked" or deadline.has_passed:
            return answer
        if answer.show is not None and not is_shown:
            print(f"The customer pays at  {answer.show}", file=sys.stderr, flush=True)
            is_shown = True


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
        code = "amount_too_large" if scaled > 0 else "amount_not_positive"
        raise CannotDo(f"{amount} {currency} is no amount to sell for ({code})", "--amount 12.50")
    return int(scaled)
