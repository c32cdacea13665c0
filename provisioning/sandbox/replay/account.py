"""The day totals of the log against those of the file, to the cent, after the whole log was verified.

Owns the comparison. Must never use the box's own sums: it adds up entries that all went through the verifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.ledger.trust import Trust
from appliance.ledger.verify import verify_log
from appliance.wire import entries
from appliance.wire.entries import SaleEntry
from provisioning.sandbox.log_copy import stored_entries
from provisioning.sandbox.replay.purchases import Purchase
from provisioning.sandbox.replay.sending import REFERENCE_PREFIX


@dataclass(slots=True)
class Totals:
    """Minor units and sales by day, and how often each row of the file was seen."""

    minor_by_day: Counter[str]
    count: int
    rows: Counter[int]

    @property
    def minor(self) -> int:
        return sum(self.minor_by_day.values())


def totals_of_file(purchases: Sequence[Purchase]) -> Totals:
    """What the log must come to: rows of 0.00 are no sales."""
    totals = Totals(Counter(), 0, Counter())
    for purchase in purchases:
        if purchase.amount_minor:
            totals.minor_by_day[purchase.day] += purchase.amount_minor
            totals.count += 1
            totals.rows[purchase.row] += 1
    return totals


def totals_of_log(data: Path, trust: Trust, *, after: int) -> tuple[Totals, int]:
    """Verify the whole log and add up the replayed sales behind entry `after`; returns the log's size too.

    Raises:
        BadEntry: with the first entry that is not what the log says it is.
    """
    totals = Totals(Counter(), 0, Counter())
    verified = verify_log(_added_up(data, totals, after), owner=trust.owner)
    return totals, verified.size


def _added_up(data: Path, totals: Totals, after: int) -> Iterator[bytes]:
    """The entries as they pass on to the verifier, each sale added to `totals`."""
    for seq, encoded in enumerate(stored_entries(data)):
        if seq > after:
            _add(encoded, totals)
        yield encoded


def _add(encoded: bytes, totals: Totals) -> None:
    entry = decode(encoded)
    if entry.kind != entries.SALE:
        return
    sale = msgspec.convert(cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX), SaleEntry).sale
    prefix, _, rest = sale.reference.partition(" ")
    if prefix != REFERENCE_PREFIX:
        return
    day, _, row = rest.partition(" ")
    totals.minor_by_day[day] += sale.total
    totals.count += 1
    totals.rows[int(row)] += 1
