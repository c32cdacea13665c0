"""What a till may hear that did nothing wrong, and what nobody may be told who asked otherwise."""

from __future__ import annotations

from typing import Final

AGES: Final = frozenset({"key_from_the_future", "key_too_old"})
"""A key that was made while the box's clock was days off, and that the box never heard of before it was set right."""
HONEST_REFUSALS: Final[dict[str, frozenset[str]]] = {
    "payment": AGES
    | {"payment_cancelled", "retry_exists", "retry_not_needed", "retry_chain_too_long"}
    | {"part_above_remaining", "payment_unknown", "retry_of_another_sale", "rounding_wrong"}
    | {"sale_closed", "sale_not_in_parts", "too_many_parts"}
    | {"voucher_short", "voucher_spent", "voucher_void"},
    "batch": AGES,
    "voucher": AGES | {"payment_unknown", "voucher_not_paid", "voucher_spent", "voucher_void"},
    "drawer": AGES | {"drawer_short"},
    "report": AGES | {"period_empty"},
    "refund": AGES
    | {"already_undone", "payment_open", "payment_took_no_money", "payment_unknown"}
    | {"refund_above_left", "line_already_refunded", "payment_not_captured", "payment_not_confirmed"}
    | {"sale_not_complete", "vouchers_sold"},
    "capture": AGES
    | {"capture_above_authorisation", "capture_below_total", "payment_of_another_terminal"}
    | {"authorisation_expired", "payment_not_held", "payment_open", "payment_unknown"},
    "reversal": AGES | {"already_undone", "vouchers_sold"},
    "abort": AGES | {"already_undone", "payment_complete"},
}
"""What a till may be refused although it did nothing wrong, by verb."""
NOT_NOW: Final = frozenset(
    {
        "authorisation_expired",
        "drawer_short",
        "part_above_remaining",
        "period_empty",
        "payment_not_captured",
        "payment_not_confirmed",
        "payment_open",
        "payment_unknown",
        "retry_exists",
        "retry_of_another_sale",
        "retry_not_needed",
        "rounding_wrong",
        "sale_not_complete",
        "voucher_not_paid",
        "voucher_short",
        "voucher_spent",
        "vouchers_sold",
    }
)
"""Refusals that may turn into a yes: a copy of the question that is still on its way finds another payment, or a box
whose clock was set right."""
STANDS: Final[dict[str, frozenset[str]]] = {
    "refund": frozenset({"approved"}),
    "reversal": frozenset({"accepted_offline", "approved", "authorised", "partly_refunded"}),
    "abort": frozenset({"accepted_offline", "approved", "authorised", "partly_refunded"}),
}
"""What nobody may be told who asked that a payment should not stand, by verb."""
BY_ITSELF: Final = frozenset(
    {("authorised", "expired"), ("accepted_offline", "approved"), ("accepted_offline", "declined_after_handover")}
)
"""What becomes another thing although nobody asked: a bank gave it up, or spoke at last."""
