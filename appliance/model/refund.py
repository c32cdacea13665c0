"""What a refund gives: the worth of returned lines, and how an amount is shared among the tenders. Pure.

Owns two rules:
- lines returned one by one are worth, in all, exactly what the sale charged for them: each refund is the difference of
  two rounded sums, never a rounded part;
- money goes back the way it came: by card as far as the card paid, then at the stand-alone terminal, then to vouchers,
  the rest as cash, in the shop's cash steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.model.errors import Rejected
from appliance.model.money import round_to
from appliance.model.sale import Prices, Sale


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """So much of one line, by its place in the sale."""

    index: int
    quantity_thousandths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An amount, by the tender that it is of; `stated_minor` is by a card that only the cashier speaks for."""

    cash_minor: int
    card_minor: int
    stated_minor: int = 0
    voucher_minor: int = 0

    @property
    def total_minor(self) -> int:
        return self.cash_minor + self.card_minor + self.stated_minor + self.voucher_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What something cost under one tax code and rate: `gross_minor` with the tax, which is 0 where none was stated."""

    tax_code: str
    tax_rate_basis_points: int
    gross_minor: int
    tax_minor: int


def parts_worth(sale: Sale, returned: Mapping[int, int], parts: Sequence[Part]) -> tuple[Worth, ...]:
    """What `parts` of the sale's lines cost, by tax, after the quantities in `returned` (by line) went back before.

    Raises:
        Rejected: `line_unknown`, `line_already_refunded`.
    """
    after = dict(returned)
    for part in parts:
        if part.index >= len(sale.lines):
            raise Rejected("line_unknown", f"the sale has {len(sale.lines)} lines, counted from 0; saw {part.index}")
        sold = sale.lines[part.index].quantity_thousandths
        left = sold - after.get(part.index, 0)
        if part.quantity_thousandths > left:
            raise Rejected(
                "line_already_refunded",
                f"line {part.index}: expected at most {left} thousandths, which is what is left of {sold},"
                f" saw {part.quantity_thousandths}",
            )
        after[part.index] = after.get(part.index, 0) + part.quantity_thousandths
    before = _worth(sale, returned)
    return tuple(
        [
            Worth(tax_code=code, tax_rate_basis_points=rate, gross_minor=gross - was[0], tax_minor=tax - was[1])
            for (code, rate), (gross, tax) in sorted(_worth(sale, after).items())
            if (gross, tax) != (was := before.get((code, rate), (0, 0)))
        ]
    )


def shared(amount_minor: int, left: Share, *, cash_step_minor: int, slack_minor: int = 0) -> Share:
    """How `amount_minor` goes back to the tenders of a payment of which `left` may still be given back.

    Args:
        slack_minor: by how much the amount may be above what is left: cash rounding may have made a sale cheaper than
            its lines.
    Raises:
        Rejected: `amount_not_positive`, `refund_above_left`, `refund_too_small`.
    """
    if amount_minor <= 0:
        raise Rejected("amount_not_positive", f"a refund gives an amount above zero, saw {amount_minor}")
    if amount_minor > left.total_minor + slack_minor:
        raise Rejected(
            "refund_above_left",
            f"expected at most {left.total_minor} minor units, which is what is left of the payment,"
            f" saw {amount_minor}",
        )
    card = min(amount_minor, left.card_minor)
    stated = min(amount_minor - card, left.stated_minor)
    voucher = min(amount_minor - card - stated, left.voucher_minor)
    cash = min(round_to(amount_minor - card - stated - voucher, cash_step_minor), left.cash_minor)
    share = Share(cash_minor=cash, card_minor=card, stated_minor=stated, voucher_minor=voucher)
    if share.total_minor == 0:
        raise Rejected("refund_too_small", f"this shop gives cash in steps of {cash_step_minor} minor units")
    return share


def _worth(sale: Sale, returned: Mapping[int, int]) -> dict[tuple[str, int], tuple[int, int]]:
    """Gross and tax by tax code and rate."""
    by_rate: dict[tuple[str, int], int] = {}
    for index, quantity in returned.items():
        line = sale.lines[index]
        rate = (line.tax_code, line.tax_rate_basis_points)
        by_rate[rate] = by_rate.get(rate, 0) + _part(line.total_minor, quantity, line.quantity_thousandths)
    stated = {(tax.tax_code, tax.rate_basis_points): tax for tax in sale.taxes}
    worth = {}
    for rate, lines_minor in by_rate.items():
        tax_minor = 0
        if rate in stated:
            tax = stated[rate]
            # Where the tax is added the net of a rate is the sum of its lines, else the gross is.
            whole_minor = tax.net_minor + (0 if sale.prices is Prices.TAX_ADDED else tax.tax_minor)
            tax_minor = _part(tax.tax_minor, lines_minor, whole_minor)
        worth[rate] = (lines_minor + (tax_minor if sale.prices is Prices.TAX_ADDED else 0), tax_minor)
    return worth


def _part(whole_minor: int, part: int, of: int) -> int:
    """`whole_minor * part / of`, rounded half up; all of it when `part` is `of`."""
    return (2 * whole_minor * part + of) // (2 * of) if of else 0
