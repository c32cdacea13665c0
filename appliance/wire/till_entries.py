"""The bodies of a till's entries: drawers, closed periods, the shop's day. As `entries.py`: what is written stays.

Source: docs/formats/entry-kinds.md.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from appliance.wire import vault_entries
from appliance.wire.entries import Asked
from appliance.wire.requests import Wire

DRAWER_FLOAT: Final = "drawer_float"
DRAWER_PAID_IN: Final = "drawer_paid_in"
DRAWER_PAID_OUT: Final = "drawer_paid_out"
DRAWER_NO_SALE: Final = "drawer_no_sale"
DRAWER_COUNT: Final = "drawer_count"
DRAWER_CLOSED: Final = "drawer_closed"
TERMINAL_CLOSED: Final = "terminal_closed"
DAY_CLOSED: Final = "day_closed"
VOUCHER_ISSUED: Final = "voucher_issued"
VOUCHER_VOIDED: Final = "voucher_voided"

ACTS: Final = frozenset({DRAWER_FLOAT, DRAWER_PAID_IN, DRAWER_PAID_OUT, DRAWER_NO_SALE, DRAWER_COUNT})
"""Kinds of what somebody does to a drawer."""


class DrawerEntry(Wire, frozen=True, kw_only=True):
    """kinds `drawer_float`, `_paid_in`, `_paid_out`, `_no_sale`, `_count`: `amount` is what was moved, or counted."""

    asked: Asked
    amount: int = 0
    drawer: str
    reason: str = ""
    currency: str


class VoucherIssuedEntry(Wire, frozen=True, kw_only=True):
    """kind `voucher_issued`: the shop owes `amount` to whoever holds the code behind the hash `voucher`.

    Attributes:
        payment: key of the sale that it was sold with; None when it was given, for `reason`.
    """

    asked: Asked
    amount: int
    reason: str = ""
    expires: int | None = None
    payment: bytes | None = None
    voucher: bytes
    currency: str


class VoucherVoidedEntry(Wire, frozen=True, kw_only=True):
    """kind `voucher_voided`: a voucher of which nothing was spent was taken back."""

    asked: Asked
    amount: int
    reason: str = ""
    payment: bytes | None = None
    voucher: bytes
    currency: str


class CashFacts(Wire, frozen=True, kw_only=True):
    """The cash of one drawer, or of all. Two sums hold:

    expected = opening + floats + sales - refunds + paid_in - paid_out, and left = expected + difference.

    Attributes:
        difference: counted above what was expected, summed over every count of the period; null when nobody counted.
        counted: the last count of one drawer in the period.
    """

    left: int
    sales: int = 0
    floats: int = 0
    counted: int | None = None
    opening: int
    paid_in: int = 0
    refunds: int = 0
    expected: int
    paid_out: int = 0
    difference: int | None = None


class TotalsFacts(Wire, frozen=True, kw_only=True):
    """Counts and amounts of a period: `sales`, `refunds`, `reversals` and `no_sales` are counts.

    `vouchers` is what was issued, less what was taken back unspent.

    Of cards accepted without their bank: `offline` is what was, and of that or of earlier periods `forwarded` is what
    banks agreed to, `lost` what they declined (`losses` times), `withdrawn` what they will never be asked for.
    `vouchers` is what was issued, less what was taken back unspent. Of sales paid in parts: `parts_taken` is what parts
    took, `parts_sold` what of it became sales that are complete, `parts_returned` what went back of those that are not.
    """

    lost: int = 0
    tips: int = 0
    sales: int = 0
    total: int = 0
    losses: int = 0
    offline: int = 0
    refunds: int = 0
    no_sales: int = 0
    refunded: int = 0
    reversed: int = 0
    rounding: int = 0
    vouchers: int = 0
    forwarded: int = 0
    reversals: int = 0
    withdrawn: int = 0
    parts_sold: int = 0
    parts_taken: int = 0
    parts_returned: int = 0


class TaxFacts(Wire, frozen=True, kw_only=True):
    """Sales under one tax code and rate; `net` and `tax` as the tills stated them.

    Attributes:
        returned, returned_tax: what refunds by line gave back of it. A refund by amount is under no code.
    """

    net: int = 0
    tax: int = 0
    gross: int
    returned: int = 0
    tax_code: str
    returned_tax: int = 0
    rate_basis_points: int = 0


class TenderFacts(Wire, frozen=True, kw_only=True):
    """What was taken, and given back, in one kind of tender; change is off."""

    kind: str
    taken: int = 0
    returned: int = 0


class IncompleteFacts(Wire, frozen=True, kw_only=True):
    """A sale that took `paid` (tips with it) and is not complete; its first part is the entry `since`.

    Attributes:
        closed: 1: it was given up, and yet this money did not go back.
    """

    paid: int
    sale: bytes
    since: int
    closed: int = 0
    terminal: str
    remaining: int


class PeriodFacts(Wire, frozen=True, kw_only=True):
    """What a period came to: the entries behind `after`, up to and with `until`.

    Attributes:
        name: of the drawer or terminal; empty for the shop.
        number: counts the periods of this drawer, terminal or shop from 1.
        cash: absent for a terminal, whose drawer may be another terminal's too.
        owed: of the shop alone: what all vouchers out there are worth at the end of it, expired ones too.
        waiting: of a terminal or the shop: what was accepted offline in all, and is not known at the end of it.
        incomplete: sales that keep money at the end of it and are not complete, whenever they began.
    """

    cash: CashFacts | None = None
    name: str = ""
    owed: int = 0
    after: int
    scope: str
    taxes: tuple[TaxFacts, ...] = ()
    until: int
    number: int
    totals: TotalsFacts
    tenders: tuple[TenderFacts, ...] = ()
    waiting: int = 0
    currency: str
    incomplete: tuple[IncompleteFacts, ...] = ()
    incomplete_count: int = 0


class PeriodClosedEntry(Wire, frozen=True, kw_only=True):
    """kinds `drawer_closed` and `terminal_closed`: a terminal asked for Z."""

    asked: Asked
    period: PeriodFacts


class DrawerStand(Wire, frozen=True, kw_only=True):
    """One drawer's cash within a day of the shop."""

    cash: CashFacts
    drawer: str


class OpenFacts(Wire, frozen=True, kw_only=True):
    """An operation that was still being checked when the day was closed; `intent` is its entry."""

    kind: str
    amount: int
    intent: int
    payment: bytes
    terminal: str
    prepared_ms: int


class LateFacts(Wire, frozen=True, kw_only=True):
    """An outcome of an earlier day's operation: counted in this day, about the sale of `day`."""

    day: str
    kind: str
    state: str
    amount: int
    intent: int
    outcome: int
    payment: bytes
    terminal: str


class LostFacts(Wire, frozen=True, kw_only=True):
    """A card that was accepted offline and declined by its bank in this day, after the goods were gone.

    Attributes:
        day: of the sale, where that one was closed before.
        intent: the entry of the sale.
        reference: the device's name of the payment.
    """

    day: str | None = None
    code: str | None = None
    amount: int
    intent: int
    outcome: int
    payment: bytes
    terminal: str
    reference: str | None = None


class DayClosedEntry(Wire, frozen=True, kw_only=True):
    """kind `day_closed`: the shop's day, from `begins_ms` to before `ends_ms` by the shop's own clock and zone.

    Lists are bounded; the counts beside them are not.
    """

    day: str
    late: tuple[LateFacts, ...] = ()
    lost: tuple[LostFacts, ...] = ()
    open: tuple[OpenFacts, ...] = ()
    zone: str
    period: PeriodFacts
    cut_off: str
    drawers: tuple[DrawerStand, ...] = ()
    ends_ms: int
    begins_ms: int
    late_count: int = 0
    lost_count: int = 0
    open_count: int = 0
    drawer_count: int = 0


_AskedEntry: TypeAlias = (
    type[DrawerEntry]
    | type[PeriodClosedEntry]
    | type[VoucherIssuedEntry]
    | type[VoucherVoidedEntry]
    | type[vault_entries.TokenKeptEntry]
    | type[vault_entries.TokenForgottenEntry]
)
ASKED: Final[dict[str, tuple[_AskedEntry, str]]] = {
    **dict.fromkeys(ACTS, (DrawerEntry, "drawer")),
    DRAWER_CLOSED: (PeriodClosedEntry, "report"),
    TERMINAL_CLOSED: (PeriodClosedEntry, "report"),
    VOUCHER_ISSUED: (VoucherIssuedEntry, "voucher"),
    VOUCHER_VOIDED: (VoucherVoidedEntry, "voucher"),
    vault_entries.KEPT: (vault_entries.TokenKeptEntry, "token"),
    vault_entries.FORGOTTEN: (vault_entries.TokenForgottenEntry, "token"),
}
"""Kinds that answer a terminal's request: their body, and the request's verb."""
