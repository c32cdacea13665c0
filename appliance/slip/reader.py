"""Reads what the log says of a payment, with its proof where one can be signed in time.

Owns which entries a slip is made of. Changes nothing; a slip without a signature is a slip that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.ledger.archive import Archive
from appliance.ledger.entry import Entry
from appliance.ledger.ledger import Ledger
from appliance.model.ids import RequestKey
from appliance.model.limits import SIGNATURE_WAIT_MS
from appliance.payment.history import history_seqs
from appliance.slip.layout import Proof
from appliance.slip.link import proof_link
from appliance.slip.slip import ShopFace, Slip, is_told_by_two, read_slip

_ENTRIES_EACH_END: Final = 4
"""A payment tried anew for days has hundreds of entries; its slip needs the sale, what was asked, and the end."""

NO_PAGE: Final = "No page to check slips at is set up (slip.page_url)."
NOT_SIGNED: Final = "Recorded. The signature that proves it is still to come: ask for a copy."
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
            Rejected: `payment_unknown`, `entry_pruned`.
            Unavailable: `ledger_busy`.
        """
        found, slip = await self._found(key)
        return ReadSlip(slip=slip, proof=await self._proof(found))

    async def slip(self, key: RequestKey) -> Slip:
        """As `read`, without a proof: waits for no signature."""
        _, slip = await self._found(key)
        return slip

    async def _found(self, key: RequestKey) -> tuple[Sequence[Entry], Slip]:
        _, seqs = await self._archive.read(lambda connection: history_seqs(connection, key))
        chosen = tuple(sorted({*seqs[:_ENTRIES_EACH_END], *seqs[-_ENTRIES_EACH_END:]}))
        found = await self._archive.entries(chosen)
        return found, read_slip(found, await self._ledger.disclosures(chosen[0]))

    async def _proof(self, found: Sequence[Entry]) -> Proof:
        log = self._ledger.statement.origin
        if not self._page_url:
            return Proof(log=log, missing=NO_PAGE)
        if not is_told_by_two(found):
            return Proof(log=log, missing=TOO_LONG)
        receipt = await self._ledger.receipts(tuple(sorted({found[0].seq, found[-1].seq})), SIGNATURE_WAIT_MS)
        if receipt is None:
            return Proof(log=log, missing=NOT_SIGNED)
        link = proof_link(self._page_url, receipt.encode())
        return Proof(log=log, link=link, missing="" if link else TOO_LONG)
