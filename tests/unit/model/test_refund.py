"""Owns the promise that returned lines are worth what they cost, and that money goes back the way it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import Rejected
from appliance.model.refund import Part, Share, parts_worth, shared
from appliance.model.sale import Line, Prices, Sale, TaxTotal, Tender, TenderKind


def sale(*lines: Line, prices: Prices = Prices.TAX_INCLUDED, taxes: tuple[TaxTotal, ...] = ()) -> Sale:
    total = sum(line.total_minor for line in lines)
    total += sum(tax.tax_minor for tax in taxes) if prices is Prices.TAX_ADDED else 0
    return Sale(
        currency="EUR",
        prices=prices,
        lines=lines,
        taxes=taxes,
        tenders=(Tender(kind=TenderKind.CASH, amount_minor=total, source=None),),
        total_minor=total,
        tip_minor=0,
        rounding_minor=0,
        change_minor=0,
        sold_at_ms=0,
        reference="",
    )


def line(price: int, quantity: int = 1000, discount: int = 0, tax_code: str = "unstated", rate: int = 0) -> Line:
    return Line(
        sku="A",
        quantity_thousandths=quantity,
        unit_price_minor=price,
        discount_minor=discount,
        tax_code=tax_code,
        tax_rate_basis_points=rate,
    )


@given(
    price=st.integers(1, 10_000),
    pieces=st.lists(st.integers(1, 2_000), min_size=1, max_size=6),
    net=st.integers(0, 300),
)
def test_lines_returned_piece_by_piece_are_worth_what_the_sale_charged(price: int, pieces: list[int], net: int) -> None:
    first = line(price, quantity=sum(pieces), tax_code="A", rate=700)
    second = line(net + 1, tax_code="A", rate=700)
    added = (first.total_minor + second.total_minor) * 700 // 10_000
    tax = TaxTotal(
        tax_code="A",
        rate_basis_points=700,
        net_minor=first.total_minor + second.total_minor,
        tax_minor=added,
    )
    sold = sale(first, second, prices=Prices.TAX_ADDED, taxes=(tax,))
    returned: dict[int, int] = {}
    parts = [*parts_worth(sold, returned, [Part(index=1, quantity_thousandths=1000)])]
    returned[1] = 1000
    for piece in pieces:
        parts += parts_worth(sold, returned, [Part(index=0, quantity_thousandths=piece)])
        returned[0] = returned.get(0, 0) + piece
    assert all(part.gross_minor >= part.tax_minor >= 0 for part in parts)
    assert sum(part.gross_minor for part in parts) == sold.total_minor
    assert sum(part.tax_minor for part in parts) == tax.tax_minor
    with pytest.raises(Rejected, match="line_already_refunded"):
        parts_worth(sold, returned, [Part(index=0, quantity_thousandths=1)])


def test_worth_is_split_by_the_tax_of_the_lines() -> None:
    lines = (
        line(300, quantity=3000, tax_code="A", rate=1900),
        line(107, tax_code="B", rate=700),
        line(50),
        line(290, tax_code="A", rate=1900),
    )
    taxes = (
        TaxTotal(tax_code="A", rate_basis_points=1900, net_minor=1000, tax_minor=190),
        TaxTotal(tax_code="B", rate_basis_points=700, net_minor=100, tax_minor=7),
    )
    asked = [Part(index=index, quantity_thousandths=1000) for index in (1, 0, 2)]
    worth = parts_worth(sale(*lines, taxes=taxes), {0: 1000}, asked)
    assert [(part.tax_code, part.tax_rate_basis_points, part.gross_minor, part.tax_minor) for part in worth] == [
        ("A", 1900, 300, 48),
        ("B", 700, 107, 7),
        ("unstated", 0, 50, 0),
    ]


def test_a_line_that_was_not_sold_is_refused() -> None:
    with pytest.raises(Rejected, match="line_unknown"):
        parts_worth(sale(line(100)), {}, [Part(index=1, quantity_thousandths=1000)])


def test_one_line_named_twice_is_not_returned_twice() -> None:
    part = Part(index=0, quantity_thousandths=600)
    with pytest.raises(Rejected, match="expected at most 400 thousandths"):
        parts_worth(sale(line(100)), {}, [part, part])


def test_money_goes_back_by_card_first_and_the_rest_in_cash() -> None:
    left = Share(cash_minor=500, card_minor=700)
    assert shared(300, left, cash_step_minor=1) == Share(cash_minor=0, card_minor=300)
    assert shared(1_000, left, cash_step_minor=1) == Share(cash_minor=300, card_minor=700)


def test_more_than_what_is_left_is_refused_and_says_how_much_is_left() -> None:
    with pytest.raises(Rejected, match="expected at most 1200 minor units, which is what is left of the payment"):
        shared(1_201, Share(cash_minor=500, card_minor=700), cash_step_minor=5)


def test_cash_goes_back_in_the_shops_steps_and_never_above_what_is_left() -> None:
    left = Share(cash_minor=305, card_minor=0)
    assert shared(102, left, cash_step_minor=5).cash_minor == 100
    assert shared(103, left, cash_step_minor=5).cash_minor == 105
    assert shared(307, left, cash_step_minor=5, slack_minor=4).cash_minor == 305
    with pytest.raises(Rejected, match="refund_too_small"):
        shared(2, left, cash_step_minor=5)


def test_nothing_is_no_refund() -> None:
    with pytest.raises(Rejected, match="amount_not_positive"):
        shared(0, Share(cash_minor=305, card_minor=0), cash_step_minor=1)
