"""Sales add up, or are refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import Rejected
from appliance.model.money import EXPONENTS, Money, round_to
from appliance.model.sale import Line, Prices, Sale, TaxTotal, Tender, TenderKind, check_cash_rounding


def line(price: int = 1190, *, quantity: int = 1000, discount: int = 0, rate: int = 1900) -> Line:
    return Line(
        sku="A1",
        quantity_thousandths=quantity,
        unit_price_minor=price,
        discount_minor=discount,
        tax_code="S",
        tax_rate_basis_points=rate,
    )


def cash(amount: int) -> Tender:
    return Tender(kind=TenderKind.CASH, amount_minor=amount, source=None)


def card(amount: int) -> Tender:
    return Tender(kind=TenderKind.CARD, amount_minor=amount, source=None)


SALE = Sale(
    currency="EUR",
    prices=Prices.TAX_INCLUDED,
    lines=(line(),),
    taxes=(TaxTotal(tax_code="S", rate_basis_points=1900, net_minor=1000, tax_minor=190),),
    tenders=(cash(1200),),
    total_minor=1190,
    tip_minor=0,
    rounding_minor=0,
    change_minor=10,
    sold_at_ms=1,
    reference="",
)


def test_sale_with_cash_and_card_and_tip_adds_up() -> None:
    mixed = replace(SALE, tenders=(card(1000), cash(300)), tip_minor=100, change_minor=10)
    assert mixed.card_tender == card(1000)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"total_minor": 1191}, "total_wrong"),
        ({"lines": (line(discount=2000),)}, "line_negative"),
        ({"lines": (line(0),), "total_minor": 0}, "amount_not_positive"),
        ({"taxes": ()}, "taxes_incomplete"),
        ({"taxes": SALE.taxes * 2}, "taxes_incomplete"),
        ({"taxes": (replace(SALE.taxes[0], net_minor=900, tax_minor=290),)}, "tax_wrong"),
        ({"taxes": (replace(SALE.taxes[0], net_minor=1001),)}, "tax_wrong"),
        ({"tenders": ()}, "tender_not_positive"),
        ({"tenders": (cash(0),)}, "tender_not_positive"),
        ({"tenders": (card(600), card(590)), "change_minor": 0}, "too_many_cards"),
        ({"tenders": (card(1200),)}, "change_wrong"),
        ({"change_minor": -1}, "change_wrong"),
        ({"change_minor": 9}, "tenders_do_not_add_up"),
        ({"currency": "EUX"}, "currency_unknown"),
    ],
)
def test_sale_that_does_not_add_up_is_refused_by_name(change: dict[str, object], code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        replace(SALE, **change)  # type: ignore[arg-type] # the table holds values of every field's own type
    assert refusal.value.code == code


def test_added_tax_counts_into_the_total() -> None:
    taxes = (TaxTotal(tax_code="S", rate_basis_points=1900, net_minor=1190, tax_minor=226),)
    sale = replace(SALE, prices=Prices.TAX_ADDED, taxes=taxes, total_minor=1416, tenders=(cash(1416),), change_minor=0)
    assert str(sale.total) == "14.16 EUR"


def test_cash_is_rounded_to_the_shop_step_and_card_is_exact() -> None:
    rounded = replace(SALE, lines=(line(1192),), total_minor=1192, rounding_minor=-2, tenders=(cash(1190),),
                      change_minor=0, taxes=(replace(SALE.taxes[0], net_minor=1002),))  # fmt: skip
    check_cash_rounding(rounded, 5)
    check_cash_rounding(replace(rounded, rounding_minor=0, tenders=(card(1192),)), 5)
    with pytest.raises(Rejected, match="rounding_wrong"):
        check_cash_rounding(replace(rounded, rounding_minor=0, tenders=(cash(1192),)), 5)


@given(st.integers(0, 10**9), st.sampled_from([1, 5, 10, 50, 100]))
def test_rounding_moves_by_at_most_half_a_step(amount: int, step: int) -> None:
    rounded = round_to(amount, step)
    assert rounded % step == 0
    assert abs(rounded - amount) * 2 <= step


@given(st.integers(-(10**9), 10**9), st.sampled_from(sorted(EXPONENTS)))
def test_money_reads_back_from_its_text(amount: int, currency: str) -> None:
    number, code = str(Money(amount, currency)).split()
    assert (int(number.replace(".", "")), code) == (amount, currency)
