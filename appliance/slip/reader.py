"""Reads what the log says of a payment, with its proof where one can be signed in time.

Owns which entries a slip is made of. Changes nothing; a slip without a signature is a slip that says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.ledger.archive import Archive
from appliance.ledger.entry import Entry
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.limits import SIGNATURE_WAIT_MS
from appliance.model.parts import SaleInParts
from appliance.payment.guards import require_payment
from appliance.payment.parts import find_sale
from appliance.payment.records import StandingPayment, find_request
from appliance.slip.layout import Proof
from appliance.slip.link import proof_link
from appliance.slip.slip import ShopFace, Slip, is_told_by_link, read_slip

NO_PAGE: Final = "No page to check slips at is set up (slip.page_url)."
NOT_SIGNED: Final = "Recorded. The signature that proves it is still to come: ask for a copy."
NOT_TOLD: Final = "How it stands rests on more entries than a code has room for: ask for the proof as a file."
TOO_LONG: Final = "The proof of this sale is too long for a code: ask for it as a file."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSlip:
    """A slip and how it is proven."""

    slip: Slip
    proof: Proof


class SlipReader:
    """Makes slips of this box's payments."""

    def __init__(self, *, ledger: Ledger, archive: Archive, shop: ShopFace, page_url: str) -> None:
        self._ledger = ledger
        self._archive = archive
        self.shop = shop
        self._page_url = page_url

    async def read(self, key: RequestKey) -> ReadSlip:
        """The slip of the payment that `key` (its own or its refund's) is about.

        Raises:
            Rejected: `payment_unknown`, `slip_not_of_a_payment` (an act at the till), `entry_pruned`.
            Unavailable: `ledger_busy`.
        """
        found, slip = await self._found(key)
        return ReadSlip(slip=slip, proof=await self._proof(found, slip))

    async def slip(self, key: RequestKey) -> Slip:
        """As `read`, without a proof: waits for no signature."""
        _, slip = await self._found(key)
        return slip

    async def _found(self, key: RequestKey) -> tuple[Sequence[Entry], Slip]:
        """What proves the payment; what lies between, hundreds of attempts maybe, is in its standing."""
        stands, in_parts = await self._archive.read(lambda connection: _standing_of(connection, key))
        found = await self._archive.entries(stands.recorded.entry_seqs)
        return found, read_slip(found, await self._ledger.disclosures(found[0].seq), stands, in_parts)

    async def _proof(self, found: Sequence[Entry], slip: Slip) -> Proof:
        log = self._ledger.statement.origin
        if (missing := why_no_code(slip, found, self._page_url)) is not None:
            return Proof(log=log, missing=missing)
        receipt = await self._ledger.receipts(tuple([entry.seq for entry in found]), SIGNATURE_WAIT_MS)
        if receipt is None:
            return Proof(log=log, missing=NOT_SIGNED)
        return with_code(log, self._page_url, receipt.encode())


def why_no_code(slip: Slip, found: Sequence[Entry], page_url: str) -> str | None:
    """The sentence instead of a code that nobody could read rightly; None where one can be made."""
    if not page_url:
        return NO_PAGE
    return None if is_told_by_link(slip, found) else NOT_TOLD


def with_code(log: str, page_url: str, receipt_file: bytes) -> Proof:
    """The proof by a code, if it is short enough for one."""
    link = proof_link(page_url, receipt_file)
    return Proof(log=log, link=link, missing="" if link else TOO_LONG)


def _standing_of(connection: sqlite3.Connection, key: RequestKey) -> tuple[StandingPayment, SaleInParts | None]:
    known = find_request(connection, key)
    if known is None:
        raise Rejected("payment_unknown", f"no entry concerns {key}")
    if known.payment is None:
        raise Rejected("slip_not_of_a_payment", f"entry {known.seq} is about no payment")
    return require_payment(connection, known.payment), find_sale(connection, known.payment)
