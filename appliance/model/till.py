"""The words of the till: what may be done to a drawer, whose period a report is about, and sums that only ever add up.

A total is a number under a name; a period is the difference of two standings of all totals. So nothing is reset, and
what stands in no closed period yet stands in the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from appliance.model.limits import TAX_RATES_MAX


class DrawerAct(StrEnum):
    """What a cashier does to a drawer beside selling."""

    FLOAT = "float"
    PAID_IN = "paid_in"
    PAID_OUT = "paid_out"
    NO_SALE = "no_sale"
    COUNT = "count"


class Scope(StrEnum):
    """Whose period it is."""

    DRAWER = "drawer"
    TERMINAL = "terminal"
    SHOP = "shop"


class What(StrEnum):
    """What is summed up; all amounts in minor units, the others are counts."""

    FLOATS = "floats"
    CASH_SALES = "cash_sales"
    CASH_REFUNDS = "cash_refunds"
    PAID_IN = "paid_in"
    PAID_OUT = "paid_out"
    DIFFERENCE = "difference"  # counted above what was expected; below is negative
    NO_SALES = "no_sales"
    SALES = "sales"
    SALES_TOTAL = "sales_total"
    TIPS = "tips"
    ROUNDING = "rounding"
    VOUCHERS = "vouchers"  # issued, less those taken back
    REFUNDS = "refunds"
    REFUNDED = "refunded"
    REVERSALS = "reversals"
    REVERSED = "reversed"
    OFFLINE = "offline"  # accepted without a bank; every sale of it is in SALES, too
    FORWARDED = "forwarded"  # of that, on whichever day: its bank agreed
    LOST = "lost"  # its bank said no after the goods were gone
    LOSSES = "losses"  # how many
    WITHDRAWN = "withdrawn"  # its bank will never be asked
    TAKEN = "taken"  # by tender, change is off
    RETURNED = "returned"  # by tender
    GROSS = "gross"  # by tax code and rate: what the lines come to, with tax
    NET = "net"  # by tax code and rate, as the tills stated
    TAX = "tax"
    GROSS_BACK = "gross_back"  # by tax code and rate: what refunds by line gave back, with tax
    TAX_BACK = "tax_back"
    PARTS_TAKEN = "parts_taken"  # by parts of sales, whether these are complete or not
    PARTS_SOLD = "parts_sold"  # of that, what became sales that are complete
    PARTS_RETURNED = "parts_returned"  # of that, what went back of sales that are not


Key: TypeAlias = str
"""A total's name: what it is, or `labelled`."""

HELD: Final[Mapping[What, int]] = {
    What.FLOATS: 1,
    What.CASH_SALES: 1,
    What.CASH_REFUNDS: -1,
    What.PAID_IN: 1,
    What.PAID_OUT: -1,
    What.DIFFERENCE: 1,
}
"""What a drawer holds is the sum of these, with their signs."""

Sums: TypeAlias = dict[Key, int]

BY_TAX: Final = frozenset({What.GROSS, What.NET, What.TAX, What.GROSS_BACK, What.TAX_BACK})
OTHER_TAXES: Final = "(others)"
"""What stands for the tax codes and rates beyond a limit; together they have the rate 0."""


def labelled(what: What, label: str, rate: int = 0) -> Key:
    """The name of a total by tender (`label` is its kind) or by tax (`label` is the code, `rate` in basis points)."""
    return f"{what} {rate} {label}"


def parts_of(key: Key) -> tuple[What, str, int]:
    """What, label and rate of a total's name."""
    what, *rest = key.split(" ", 2)
    return (What(what), rest[1], int(rest[0])) if rest else (What(what), "", 0)


def rates_of(sums: Iterable[Key]) -> set[tuple[str, int]]:
    """Each tax code and rate that has a total of its own, in no order."""
    rates = {(code, rate) for what, code, rate in map(parts_of, sums) if what in BY_TAX}
    return rates - {(OTHER_TAXES, 0)}


def held_minor(sums: Mapping[Key, int]) -> int:
    """What the drawers behind `sums` hold, if `sums` go back to their beginning."""
    return sum(sign * sums.get(what, 0) for what, sign in HELD.items())


def added(parts: Iterable[Mapping[Key, int]]) -> Sums:
    """The sum of all parts, name by name."""
    total: Sums = {}
    for part in parts:
        for key, amount in part.items():
            total[key] = total.get(key, 0) + amount
    return total


def minus(now: Mapping[Key, int], before: Mapping[Key, int]) -> Sums:
    """What was added since `before`; what did not change is left out."""
    return {key: amount - before.get(key, 0) for key, amount in now.items() if amount != before.get(key, 0)}


def owed_minor(sums: Mapping[Key, int]) -> int:
    """What vouchers out there are worth, if `sums` go back to the beginning of the shop."""
    spent = sums.get(labelled(What.TAKEN, "voucher"), 0) - sums.get(labelled(What.RETURNED, "voucher"), 0)
    return sums.get(What.VOUCHERS, 0) - spent


def waiting_minor(sums: Mapping[Key, int]) -> int:
    """What was accepted offline and is not known yet, if `sums` go back to their beginning."""
    known = sum(sums.get(what, 0) for what in (What.FORWARDED, What.LOST, What.WITHDRAWN))
    return sums.get(What.OFFLINE, 0) - known


class Tally:
    """Totals that grow; a terminal that invents tax codes grows one total, not their number.

    * The first `TAX_RATES_MAX` pairs of tax code and rate have totals of their own, for ever; whatever comes after them
      is added under `OTHER_TAXES`. So the order of what is added decides, and nothing else.
    """

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self._rates: set[tuple[str, int]] | None = None

    def add(self, more: Mapping[Key, int]) -> None:
        """Add `more`, name by name."""
        for key, amount in more.items():
            name = key if key in self.sums else self._name(key)
            self.sums[name] = self.sums.get(name, 0) + amount

    def _name(self, key: Key) -> Key:
        """Where a total that is not there yet is added."""
        what, code, rate = parts_of(key)
        if what not in BY_TAX:
            return key
        if self._rates is None:
            self._rates = rates_of(self.sums)
        if (code, rate) not in self._rates:
            if len(self._rates) >= TAX_RATES_MAX:
                return labelled(what, OTHER_TAXES)
            self._rates.add((code, rate))
        return key
