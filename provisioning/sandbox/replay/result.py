"""What a replay came to: speed, and each promise with whether it was kept. Pure.

Owns the promises. Must never round a total: money is compared in minor units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from appliance.model.money import Money
from provisioning.sandbox.replay.account import Totals, totals_of_file
from provisioning.sandbox.replay.purchases import Purchase
from provisioning.sandbox.replay.sending import Handed


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds at two quantiles."""

    p50: float
    p99: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the tills were served, from signing a batch to its checked receipt.

    Attributes:
        memory_mb: most memory that the appliance held.
    """

    sales: int
    seconds: float
    sales_per_second: float
    batches: int
    batch_ms: Spread
    sale_ms: Spread
    memory_mb: float


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a replay must come to."""

    sentence: str
    is_kept: bool


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Every row of the file accounted for.

    Attributes:
        refused: how many by code.
        receipts_late: accepted sales whose receipt came after the answer.
        entries: size of the verified log.
    """

    purchases: int
    accepted: int
    refused: dict[str, int]
    receipts_late: int
    entries: int
    days: int
    days_equal: int
    total_minor: int
    currency: str
    promises: tuple[Promise, ...]

    @property
    def is_kept(self) -> bool:
        """Whether every promise was."""
        return all(promise.is_kept for promise in self.promises)


def speed_of(handed: Sequence[Handed], seconds: float, memory_mb: float) -> Speed:
    """The figures of all tills together."""
    batches = [batch for each in handed for batch in each.batches]
    sales = sum(count for _, count in batches)
    return Speed(
        sales=sales,
        seconds=seconds,
        sales_per_second=sales / seconds,
        batches=len(batches),
        batch_ms=_spread([took * 1000 for took, _ in batches]),
        sale_ms=_spread([took * 1000 / count for took, count in batches]),
        memory_mb=memory_mb,
    )


def account_of(
    purchases: Sequence[Purchase], handed: Sequence[Handed], logged: Totals, entries: int, currency: str
) -> Account:
    """The file, what the tills heard, and what stands in the verified log, held against each other."""
    expected = totals_of_file(purchases)
    accepted = sum(each.accepted for each in handed)
    refused = sum((each.refused for each in handed), Counter[str]())
    empty = sum(1 for purchase in purchases if not purchase.amount_minor)
    days = sum(1 for day, minor in expected.minor_by_day.items() if logged.minor_by_day[day] == minor)
    reasons = ", ".join(f"{count} {code}" for code, count in sorted(refused.items())) or "none"
    promises = (
        (f"the whole log verifies: {entries:,} entries, each follows from the one before it", True),
        (
            f"{accepted:,} accepted + {refused.total():,} refused = {len(purchases):,} purchases ({reasons})",
            accepted + refused.total() == len(purchases),
        ),
        (f"what was refused are the {empty} rows of 0.00", refused.total() == empty),
        (f"every accepted purchase is in the log exactly once: {logged.count:,}", logged.rows == expected.rows),
        (
            f"{days:,} of {len(expected.minor_by_day):,} day totals equal the file's, to the cent",
            logged.minor_by_day == expected.minor_by_day,
        ),
        (f"together {Money(logged.minor, currency)}", logged.minor == expected.minor),
    )
    return Account(
        purchases=len(purchases),
        accepted=accepted,
        refused=dict(sorted(refused.items())),
        receipts_late=sum(each.without_receipt for each in handed),
        entries=entries,
        days=len(expected.minor_by_day),
        days_equal=days,
        total_minor=logged.minor,
        currency=currency,
        promises=tuple([Promise(sentence=sentence, is_kept=is_kept) for sentence, is_kept in promises]),
    )


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.50, 0.99))
    return Spread(p50=p50, p99=p99)
