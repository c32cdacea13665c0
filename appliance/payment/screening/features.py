"""What the model sees of one sale or refund, as numbers in a fixed order.

Amounts are shares of the terminal's own running mean: a model that was trained on one shop says something in another,
in any currency. The trainer computes its examples with this very code (`provisioning/screening/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.model.money import exponent
from appliance.model.sale import Sale, TenderKind
from appliance.payment.screening.activity import REFUNDS_SPAN_MS, SALES_SPAN_MS, TerminalActivity

FEATURES: Final = (
    "is_refund",
    "is_card",
    "amount_ratio",
    "is_round",
    "hour",
    "seconds_since_sale",
    "sales_10_minutes",
    "sales_hour",
    "amount_hour_ratio",
    "refunds_day",
    "refunds_day_ratio",
    "discount_share",
    "lines",
    "is_amount_only",
    "refund_share",
    "refund_age_hours",
    "is_refund_of_another_till",
)
_ROUND_MAJOR: Final = 5
_AGE_HOURS_MAX: Final = 2_160.0  # 90 days: as long as a key is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A sale or refund as screening looks at it; `refund_*` of a refund only.

    Attributes:
        minute: of the day, on the wall clock of the shop.
        refund_share: given back now, of the whole payment.
        exposed_minor: what hangs on banks, and this card that might; 0 where no device of the sale accepts offline.
    """

    at_ms: int
    minute: int
    amount_minor: int
    currency: str
    is_card: bool
    is_refund: bool = False
    discount_share: float = 0.0
    line_count: int = 0
    is_amount_only: bool = False
    refund_share: float = 0.0
    refund_age_ms: int = 0
    is_of_another_till: bool = False
    exposed_minor: int = 0


def asked_of(sale: Sale, *, at_ms: int, minute: int, exposed_minor: int = 0) -> Asked:
    """A sale, seen so. Args: exposed_minor: what hangs on banks that were not asked, without it."""
    at_pads_minor = sum([tender.amount_minor for tender in sale.tenders if tender.kind is TenderKind.PIN_PAD])
    discount = sum([line.discount_minor for line in sale.lines])
    return Asked(
        at_ms=at_ms,
        minute=minute,
        amount_minor=sale.total_minor,
        currency=sale.currency,
        is_card=sale.card_tender is not None,
        discount_share=discount / (sale.total_minor + discount) if discount else 0.0,
        line_count=len(sale.lines),
        is_amount_only=len(sale.lines) == 1 and not sale.lines[0].sku,
        exposed_minor=exposed_minor + at_pads_minor if at_pads_minor else 0,
    )


def features_of(asked: Asked, activity: TerminalActivity) -> list[float]:
    """In the order of `FEATURES`."""
    mean = activity.mean_minor or float(max(asked.amount_minor, 1))
    at_ms = asked.at_ms
    ten_minutes, _ = activity.sales.within(at_ms, 10 * MINUTE_MS)
    hour, hour_minor = activity.sales.within(at_ms, SALES_SPAN_MS)
    refunds, refunds_minor = activity.refunds.within(at_ms, REFUNDS_SPAN_MS)
    idle_ms = DAY_MS if activity.last_ms is None else min(max(at_ms - activity.last_ms, 0), DAY_MS)
    return [
        float(asked.is_refund),
        float(asked.is_card),
        asked.amount_minor / mean,
        float(asked.amount_minor % (_ROUND_MAJOR * 10 ** exponent(asked.currency)) == 0),
        asked.minute / 60,
        idle_ms / 1000,
        float(ten_minutes),
        float(hour),
        hour_minor / mean,
        float(refunds),
        refunds_minor / mean,
        asked.discount_share,
        float(asked.line_count),
        float(asked.is_amount_only),
        asked.refund_share,
        min(asked.refund_age_ms / HOUR_MS, _AGE_HOURS_MAX),
        float(asked.is_of_another_till),
    ]
