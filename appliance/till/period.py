"""What a period came to, from its sums. Pure; each report is summed up a second time before anybody sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.model.invariants import ensure
from appliance.model.limits import TAXES_LISTED_MAX
from appliance.model.till import OTHER_TAXES, Key, Scope, What, held_minor, labelled, parts_of, rates_of
from appliance.wire.till_entries import CashFacts, IncompleteFacts, PeriodFacts, TaxFacts, TenderFacts, TotalsFacts

_CASH_OF: Final = {
    "floats": What.FLOATS,
    "sales": What.CASH_SALES,
    "refunds": What.CASH_REFUNDS,
    "paid_in": What.PAID_IN,
    "paid_out": What.PAID_OUT,
}
_TAXES_OF: Final = {
    "net": What.NET,
    "tax": What.TAX,
    "gross": What.GROSS,
    "returned": What.GROSS_BACK,
    "returned_tax": What.TAX_BACK,
}
_TOTALS_OF: Final = {
    "sales": What.SALES,
    "total": What.SALES_TOTAL,
    "tips": What.TIPS,
    "rounding": What.ROUNDING,
    "refunds": What.REFUNDS,
    "refunded": What.REFUNDED,
    "reversals": What.REVERSALS,
    "reversed": What.REVERSED,
    "no_sales": What.NO_SALES,
    "vouchers": What.VOUCHERS,
    "offline": What.OFFLINE,
    "forwarded": What.FORWARDED,
    "lost": What.LOST,
    "losses": What.LOSSES,
    "withdrawn": What.WITHDRAWN,
    "parts_taken": What.PARTS_TAKEN,
    "parts_sold": What.PARTS_SOLD,
    "parts_returned": What.PARTS_RETURNED,
}


def period_facts(
    sums: Mapping[Key, int],
    cash: CashFacts | None,
    *,
    scope: Scope,
    name: str,
    number: int,
    after: int,
    until: int,
    currency: str,
    owed: int = 0,
    waiting: int = 0,
    incomplete: tuple[IncompleteFacts, ...] = (),
    incomplete_count: int = 0,
) -> PeriodFacts:
    """The report of a period. `Bug` when it does not add up."""
    period = PeriodFacts(
        scope=scope.value,
        name=name,
        number=number,
        after=after,
        until=until,
        currency=currency,
        totals=_totals_facts(sums),
        tenders=_tender_facts(sums),
        taxes=_tax_facts(sums),
        cash=cash,
        owed=owed,
        waiting=waiting,
        incomplete=incomplete,
        incomplete_count=incomplete_count,
    )
    require_adds_up(period)
    return period


def has_cash(sums: Mapping[Key, int]) -> bool:
    """Whether any cash was moved."""
    return any(sums.get(what) for what in _CASH_OF.values())


def cash_facts(sums: Mapping[Key, int], opening: int, counted: int | None, *, is_counted: bool) -> CashFacts:
    """The cash of a period that began with `opening`."""
    moved = {name: sums.get(what, 0) for name, what in _CASH_OF.items()}
    left = opening + held_minor(sums)
    difference = sums.get(What.DIFFERENCE, 0)
    return CashFacts(
        **moved,
        opening=opening,
        expected=left - difference,
        counted=counted,
        difference=difference if is_counted else None,
        left=left,
    )


def require_adds_up(period: PeriodFacts) -> None:
    """Every sum of a report, once more and another way."""
    totals, cash = period.totals, period.cash
    taken = sum(tender.taken for tender in period.tenders)
    sold = totals.total + totals.tips + totals.rounding
    ensure(taken == sold + totals.parts_taken - totals.parts_sold, "what was taken is what was sold, with tips")
    returned = sum(tender.returned for tender in period.tenders)
    gone = totals.refunded + totals.reversed + totals.parts_returned
    ensure(returned == gone, "what was returned is what was refunded and reversed")
    ensure(sum(tax.gross for tax in period.taxes) == totals.total, "lines by tax come to what was sold")
    ensure(period.waiting >= 0, "no more becomes known than was accepted offline")
    ensure(period.owed >= 0, "no more is spent of vouchers than was issued")
    if cash is not None:
        in_cash = next((tender for tender in period.tenders if tender.kind == "cash"), TenderFacts(kind="cash"))
        ensure((in_cash.taken, in_cash.returned) == (cash.sales, cash.refunds), "cash tenders are the drawers' cash")
        moved = cash.floats + cash.sales - cash.refunds + cash.paid_in - cash.paid_out
        ensure(cash.expected == cash.opening + moved, "expected cash is what it began with and what was moved")
        ensure(cash.left == cash.expected + (cash.difference or 0), "what is left was expected or counted")


def _totals_facts(sums: Mapping[Key, int]) -> TotalsFacts:
    return TotalsFacts(**{name: sums.get(what, 0) for name, what in _TOTALS_OF.items()})


def _tender_facts(sums: Mapping[Key, int]) -> tuple[TenderFacts, ...]:
    kinds = sorted({kind for what, kind, _ in map(parts_of, sums) if what in (What.TAKEN, What.RETURNED)})
    return tuple(
        TenderFacts(
            kind=kind,
            taken=sums.get(labelled(What.TAKEN, kind), 0),
            returned=sums.get(labelled(What.RETURNED, kind), 0),
        )
        for kind in kinds
    )


def _tax_facts(sums: Mapping[Key, int]) -> tuple[TaxFacts, ...]:
    taxes = [_tax(sums, code, rate) for code, rate in sorted(rates_of(sums))]
    listed, rest = taxes[:TAXES_LISTED_MAX], [*taxes[TAXES_LISTED_MAX:], _tax(sums, OTHER_TAXES, 0)]
    others = {name: sum(getattr(each, name) for each in rest) for name in _TAXES_OF}
    if any(others.values()):
        listed.append(TaxFacts(tax_code=OTHER_TAXES, **others))
    return tuple(listed)


def _tax(sums: Mapping[Key, int], code: str, rate: int) -> TaxFacts:
    amounts = {name: sums.get(labelled(what, code, rate), 0) for name, what in _TAXES_OF.items()}
    return TaxFacts(tax_code=code, rate_basis_points=rate, **amounts)
