"""The box sells to itself: one cash sale through checks, commit, both signatures and the reading of a verifier.

Owns what "it can sell" means for an image that has to prove itself. No money moves and nothing counts the sale: its
entry has a kind of its own, which no projection of the shop wants.
"""

from __future__ import annotations

from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.receipt import verify_receipt
from appliance.model.errors import Corrupt, Unavailable
from appliance.model.sale import TAX_UNSTATED, Line, Prices, Sale, Tender, TenderKind
from appliance.payment.sale_facts import facts_of
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.wire.update_entries import SELF_TEST_SALE, SelfTestSaleEntry

_AMOUNT_MINOR: Final = 100
_SIGNATURE_WAIT_MS: Final = 15_000


async def sell_to_itself(*, ledger: Ledger, admission: Admission, clock: Clock, currency: str, version: str) -> int:
    """Sell, and prove it; returns the entry.

    Raises:
        Unavailable: the box takes no sales now, its disk is full, or no head is signed.
        Corrupt: `self_test_sale_wrong`: the receipt or the database says something else than was sold.
        Rejected: every code of `verify_receipt`: nobody would believe the receipt.
    """
    admission.admit()
    sale = Sale(
        currency=currency,
        prices=Prices.TAX_INCLUDED,
        lines=(
            Line(
                sku="self-test",
                quantity_thousandths=1000,
                unit_price_minor=_AMOUNT_MINOR,
                discount_minor=0,
                tax_code=TAX_UNSTATED,
                tax_rate_basis_points=0,
            ),
        ),
        taxes=(),
        tenders=(Tender(kind=TenderKind.CASH, amount_minor=_AMOUNT_MINOR, source=None),),
        total_minor=_AMOUNT_MINOR,
        tip_minor=0,
        rounding_minor=0,
        change_minor=0,
        sold_at_ms=clock.now_ms(),
        reference="",
    )
    body = cbor.encode(
        msgspec.to_builtins(SelfTestSaleEntry(sale=facts_of(sale), version=version), builtin_types=(bytes,))
    )
    draft = Draft(kind=SELF_TEST_SALE, actor="box", time_ms=clock.now_ms(), body=body)
    # An intent, as a shop's sale would be: a full disk refuses it.
    (sold,) = await ledger.append([draft], purpose=Purpose.INTENT)
    await _prove(ledger, sold.seq, body)
    return sold.seq


async def _prove(ledger: Ledger, seq: int, body: bytes) -> None:
    receipt = await ledger.receipts([seq], _SIGNATURE_WAIT_MS)
    if receipt is None:
        raise Unavailable("signing_down", "the test sale was not signed in time")
    # As a customer's verifier reads it: from the file's bytes, with the keys that the owner vouched for.
    proven = verify_receipt(receipt.encode(), {ledger.log_id: ledger.keys})
    stored = await ledger.read(
        lambda connection: connection.execute("SELECT kind, entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    )
    (entry,) = proven.entries
    if (entry.seq, entry.kind, entry.body) != (seq, SELF_TEST_SALE, body) or stored != (SELF_TEST_SALE, entry.encoded):
        raise Corrupt("self_test_sale_wrong", f"entry {seq} is not the test sale, in the receipt or in the database")
