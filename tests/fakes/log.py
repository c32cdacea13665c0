"""A small shop's log, made by the real ledger with keys in memory: every kind of entry, receipts, an export.

Owns the story that the tests of the verifier and of the exports tell. Holds no test.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from appliance.crypto.disclosure import commit
from appliance.ledger.draft import Disclosure, Draft, Purpose, Recorded
from appliance.ledger.ledger import Ledger
from appliance.ledger.receipt import ReceiptBundle
from appliance.ledger.trust import encode_trust
from appliance.model.ids import RequestKey, new_request_key
from appliance.payment.drafts import draft
from appliance.wire import entries
from appliance.wire.requests import LineBody, TaxBody, TenderBody, Wire
from tests.fakes.clock import START_MS
from tests.unit.ledger.shop import genesis, open_ledger, owner, running

WAIT_MS = 10_000
TERMINAL = "till-1"
CASHIER = b"Augusta Ada King"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopLog:
    """What a stranger may hold of it.

    Attributes:
        sale, card, whole: receipts of one cash sale, of a card payment's two entries, of all entries.
        disclosed: as `sale`, with the cashier's name opened.
    """

    trust: bytes
    sale: bytes
    card: bytes
    disclosed: bytes
    whole: ReceiptBundle


@cache
def shop_log() -> ShopLog:
    """Made once for the whole run, away from the disk of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(write_shop_log(Path(folder) / "ledger"))


async def write_shop_log(folder: Path) -> ShopLog:
    """The story, in a new ledger in `folder`."""
    async with running(await open_ledger(folder, projections=())) as ledger:
        await tell(ledger)
        whole = await bundle(ledger, range(ledger.head.size))
        sale = await bundle(ledger, [4])
        opened = tuple([item for item in await ledger.disclosures(4) if item.name == "cashier"])
        (proven,) = sale.entries
        return ShopLog(
            trust=encode_trust(owner().public, [genesis()]),
            sale=sale.encode(),
            card=(await bundle(ledger, [6, 7])).encode(),
            disclosed=ReceiptBundle(head=sale.head, entries=(replace(proven, disclosures=opened),)).encode(),
            whole=whole,
        )


async def write_sales(folder: Path, count: int) -> ReceiptBundle:
    """A ledger of `count` plain cash sales, and a receipt of the newest."""
    async with running(await open_ledger(folder, projections=())) as ledger:
        for start in range(0, count, 500):
            await ledger.append(
                [cash_sale(number, 100 + number % 900) for number in range(start, min(start + 500, count))],
                purpose=Purpose.OUTCOME,
            )
        return await bundle(ledger, [ledger.head.size - 1])


async def bundle(ledger: Ledger, seqs: Sequence[int]) -> ReceiptBundle:
    """A receipt of `seqs` under a signed head."""
    receipt = await ledger.receipts(list(seqs), WAIT_MS)
    assert receipt is not None
    return receipt


async def tell(ledger: Ledger) -> None:
    """Entries 2 and up: a terminal is paired, the box starts, cash, card approved, card declined, refund, the rest."""
    await _put(
        ledger, "box", entries.TERMINAL_PAIRED, entries.TerminalPairedEntry(terminal=TERMINAL, public_key=b"spki")
    )
    boot = entries.BootEntry(version="0.1.0", self_tests=12, epoch=1, post_quantum="token")
    await _put(ledger, "box", entries.BOOT, boot)
    await ledger.append([cash_sale(1, 1250)], purpose=Purpose.OUTCOME)  # 4
    await ledger.append([cash_sale(2, 300)], purpose=Purpose.OUTCOME)  # 5
    await _card(ledger, 3, 2000, "confirmed", reference="pi_123", code=None)  # 6, 7
    await _card(ledger, 4, 9900, "rejected", reference="pi_124", code="card_declined")  # 8, 9
    undo = entries.UndoEntry(asked=asked(5), payment=key(2).octets, currency="EUR", cash=300, reason="broken")
    await _put(ledger, TERMINAL, entries.REFUND, undo)  # 10
    await _put(ledger, TERMINAL, entries.TOMBSTONE, entries.TombstoneEntry(asked=asked(7), payment=key(6).octets))  # 11
    await _put(ledger, "box", entries.CLOCK_STEP, entries.ClockStepEntry(step_ms=-1500))  # 12
    refusals = entries.RefusalsEntry(terminal=TERMINAL, codes={"amount_zero": 3})
    await _put(ledger, "box", entries.REFUSALS, refusals)  # 13
    revoked = entries.TerminalRevokedEntry(terminal=TERMINAL, reason="lost")
    await _put(ledger, "box", entries.TERMINAL_REVOKED, revoked)  # 14


def key(number: int) -> RequestKey:
    """The terminal's `number`-th key."""
    return new_request_key(START_MS, number.to_bytes(10, "big"))


def asked(number: int, *disclosures: Disclosure) -> entries.Asked:
    commitments = {each.name: each.commitment for each in disclosures}
    commitments[entries.PAYLOAD] = commit(bytes(16), bytes(32))
    return entries.Asked(key=key(number).octets, commitments=commitments)


def cash_sale(number: int, amount: int) -> Draft:
    """A sale of `amount` paid with 10.00 more than asked for."""
    cashier = Disclosure(name="cashier", salt=bytes(16), value=CASHIER, subject="cashier:1")
    sale = entries.SaleFacts(
        currency="EUR",
        total=amount,
        tenders=(TenderBody(kind="cash", amount_minor=amount + 1000),),
        lines=(
            LineBody(sku=f"SKU-{number}", unit_price_minor=amount, tax_code="standard", tax_rate_basis_points=1900),
        ),
        taxes=(TaxBody(tax_code="standard", rate_basis_points=1900, net_minor=amount - 1, tax_minor=1),),
        change=1000,
        sold_at_ms=START_MS,
        reference=f"receipt-{number}",
    )
    body = entries.SaleEntry(asked=asked(number, cashier), sale=sale)
    return draft(entries.SALE, TERMINAL, START_MS, body, (cashier,))


async def _card(
    ledger: Ledger, number: int, amount: int, state: str, *, reference: str, code: str | None
) -> tuple[Recorded, ...]:
    payment = key(number).octets
    operation = entries.OperationFacts(
        id=f"{key(number)}/0", kind="authorise", provider_key=f"provider-{number}", amount=amount, currency="EUR"
    )
    sale = entries.SaleFacts(
        currency="EUR",
        total=amount,
        tenders=(TenderBody(kind="card", amount_minor=amount, source="reader-1"),),
        lines=(LineBody(sku=f"SKU-{number}", unit_price_minor=amount),),
        sold_at_ms=START_MS,
    )
    intent = entries.IntentEntry(operation=operation, payment=payment, asked=asked(number), sale=sale)
    (recorded,) = await _put(ledger, TERMINAL, entries.INTENT, intent)
    outcome = entries.OutcomeEntry(
        operation=operation.id,
        kind="authorise",
        payment=payment,
        state=state,
        intent=hashlib.sha256(recorded.entry).digest(),
        reference=reference,
        code=code,
    )
    return await _put(ledger, TERMINAL, entries.OUTCOME, outcome)


async def _put(ledger: Ledger, actor: str, kind: str, body: Wire) -> tuple[Recorded, ...]:
    made = draft(kind, actor, START_MS, body, ())
    return await ledger.append([made], purpose=Purpose.OUTCOME)
