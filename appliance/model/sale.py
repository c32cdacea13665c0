"""A sale: what was sold, and how it was paid. The arithmetic is checked where the value is made.

The rule that every sale obeys, in minor units of one currency:

    total + tip + rounding = tenders - change + remaining

A sale may be paid in parts (`model/parts.py`): the first one has the lines and says what it leaves open, each later one
names the first and covers some of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.limits import AMOUNT_MINOR_MAX, CARD_TENDERS_MAX
from appliance.model.money import Money, round_to

TAX_UNSTATED: Final = "unstated"
"""Tax code of the one line that an amount-only request becomes."""


class Prices(StrEnum):
    """Whether line prices already contain the tax (Europe) or the tax is added below them (United States)."""

    TAX_INCLUDED = "tax_included"
    TAX_ADDED = "tax_added"


class TenderKind(StrEnum):
    """How a part of a sale is paid."""

    CASH = "cash"
    CARD = "card"  # a provider takes it
    PAYPAL = "paypal"  # a provider takes it, once the customer agreed there
    PIN_PAD = "pin_pad"  # a card at a device on the counter, whose acquirer may let it do without the bank for a while
    USDC = "usdc"  # the customer pays it himself, at an address of a provider's
    VOUCHER = "voucher"  # the shop owes it already
    CARD_STATED = "card_stated"  # at a terminal that the box does not drive: the cashier says so, nothing proves it


MOVED_BY_PROVIDERS: Final = frozenset({TenderKind.CARD, TenderKind.PAYPAL, TenderKind.USDC, TenderKind.PIN_PAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a sale: `quantity * unit price - discount`, rounded half up to the minor unit."""

    sku: str
    quantity_thousandths: int
    unit_price_minor: int
    discount_minor: int
    tax_code: str
    tax_rate_basis_points: int

    @property
    def total_minor(self) -> int:
        return (self.quantity_thousandths * self.unit_price_minor + 500) // 1000 - self.discount_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxTotal:
    """What the till states for one tax code and rate."""

    tax_code: str
    rate_basis_points: int
    net_minor: int
    tax_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tender:
    """One payment of a sale.

    Attributes:
        source: of a card, its origin as the provider knows it, never a card number; of a stated one, what the slip of
            its own terminal is called; of a voucher, its id in hexadecimal, never its code.
    """

    kind: TenderKind
    amount_minor: int
    source: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A sale whose lines, taxes and tenders add up; or a later part of one, which has no lines.

    Attributes:
        total_minor: of a later part, what it covers of the sale.
        remaining_minor: what a first part leaves to later ones.
        part_of: the first part, of a later one.
        may_be_partial: the provider may take less than it is asked for; the rest is left to later parts.
    """

    currency: str
    prices: Prices
    lines: tuple[Line, ...]
    taxes: tuple[TaxTotal, ...]
    tenders: tuple[Tender, ...]
    total_minor: int
    tip_minor: int
    rounding_minor: int
    change_minor: int
    sold_at_ms: int
    reference: str
    is_captured_later: bool = False  # a card's bank is to hold the money, a capture takes it later
    remaining_minor: int = 0
    part_of: RequestKey | None = None
    may_be_partial: bool = False

    def __post_init__(self) -> None:
        Money(self.total_minor, self.currency)
        _check_total(self)
        _check_taxes(self)
        _check_tenders(self)

    @property
    def total(self) -> Money:
        return Money(self.total_minor, self.currency)

    @property
    def covers_minor(self) -> int:
        """How much of a sale's total this payment is for."""
        return self.total_minor - self.remaining_minor

    @property
    def is_in_parts(self) -> bool:
        """Other payments may pay the same sale."""
        return self.part_of is not None or self.remaining_minor > 0 or self.may_be_partial

    @property
    def card_tender(self) -> Tender | None:
        """The tender that a provider must authorise, if there is one."""
        return next((tender for tender in self.tenders if tender.kind in MOVED_BY_PROVIDERS), None)


def check_cash_rounding(sale: Sale, step_minor: int) -> None:
    """Refuse a rounding other than the shop's: what is left for cash is rounded to `step_minor`, cards are exact.

    Raises:
        Rejected: `rounding_wrong`.
    """
    cash = [tender for tender in sale.tenders if tender.kind is TenderKind.CASH]
    left_for_cash = sale.covers_minor + sale.tip_minor - sum(t.amount_minor for t in sale.tenders if t not in cash)
    expected = round_to(left_for_cash, step_minor) - left_for_cash if cash and left_for_cash > 0 else 0
    if sale.rounding_minor != expected:
        raise Rejected(
            "rounding_wrong",
            f"expected {expected} minor units with a step of {step_minor}, saw {sale.rounding_minor}",
        )
    if expected and sale.remaining_minor:
        raise Rejected("rounding_wrong", "a sale is rounded once, with the cash that completes it")


def _check_total(sale: Sale) -> None:
    if any(line.total_minor < 0 for line in sale.lines):
        raise Rejected("line_negative", "a line's discount must not exceed its price")
    lines_minor = sum(line.total_minor for line in sale.lines)
    added_minor = sum(tax.tax_minor for tax in sale.taxes) if sale.prices is Prices.TAX_ADDED else 0
    if sale.part_of is not None:
        if sale.lines or sale.taxes or sale.remaining_minor:
            raise Rejected(
                "part_malformed", "a later part says what it covers; the first has lines, taxes and remaining"
            )
    elif sale.total_minor != lines_minor + added_minor:
        raise Rejected(
            "total_wrong", f"expected a total of {lines_minor + added_minor} from the lines, saw {sale.total_minor}"
        )
    if sale.total_minor <= 0:
        raise Rejected("amount_not_positive", f"a sale's total must be above zero, saw {sale.total_minor}")
    if not 0 <= sale.remaining_minor < sale.total_minor:
        raise Rejected("part_malformed", f"a first part leaves less open than {sale.total_minor}, the sale's total")


def _check_taxes(sale: Sale) -> None:
    gross: dict[tuple[str, int], tuple[int, int]] = {}
    for line in sale.lines:
        if line.tax_code != TAX_UNSTATED:
            rate = (line.tax_code, line.tax_rate_basis_points)
            total, count = gross.get(rate, (0, 0))
            gross[rate] = (total + line.total_minor, count + 1)
    stated = {(tax.tax_code, tax.rate_basis_points): tax for tax in sale.taxes}
    if len(stated) != len(sale.taxes) or stated.keys() != gross.keys():
        raise Rejected("taxes_incomplete", "expected one tax total for each tax code and rate of the lines")
    for rate, tax in stated.items():
        lines_minor, line_count = gross[rate]
        base = lines_minor if sale.prices is Prices.TAX_ADDED else tax.net_minor
        exact_hundredths = base * tax.rate_basis_points // 100
        whole = tax.net_minor + (tax.tax_minor if sale.prices is Prices.TAX_INCLUDED else 0)
        # Tills round per line or per sale: both are lawful, so each line may move the tax by one minor unit.
        if whole != lines_minor or abs(tax.tax_minor * 100 - exact_hundredths) > 100 * line_count:
            raise Rejected("tax_wrong", f"the tax stated for code {tax.tax_code} does not follow from its lines")


def _check_tenders(sale: Sale) -> None:
    if not sale.tenders or any(tender.amount_minor <= 0 for tender in sale.tenders):
        raise Rejected("tender_not_positive", "a sale needs tenders, each above zero")
    if sum(tender.kind in MOVED_BY_PROVIDERS for tender in sale.tenders) > CARD_TENDERS_MAX:
        raise Rejected(
            "too_many_cards",
            f"at most {CARD_TENDERS_MAX} tender that a provider takes; a second card is a part of its own",
        )
    is_one_card = [tender.kind for tender in sale.tenders] == [TenderKind.CARD]
    if sale.is_captured_later and (not is_one_card or sale.is_in_parts):
        raise Rejected("later_needs_one_card", "a sale that is captured later is paid by one card and nothing else")
    if sale.may_be_partial and (not is_one_card or sale.tip_minor):
        raise Rejected("partial_needs_one_card", "less than asked is taken of one card alone, without a tip")
    cash_minor = sum(tender.amount_minor for tender in sale.tenders if tender.kind is TenderKind.CASH)
    if not 0 <= sale.change_minor <= cash_minor or not 0 <= sale.tip_minor <= AMOUNT_MINOR_MAX:
        raise Rejected("change_wrong", "change is given from cash only, and neither change nor tip is negative")
    payable = sale.covers_minor + sale.tip_minor + sale.rounding_minor
    paid = sum(tender.amount_minor for tender in sale.tenders) - sale.change_minor
    if payable != paid:
        raise Rejected(
            "tenders_do_not_add_up", f"total + tip + rounding - remaining is {payable}, tenders - change is {paid}"
        )
