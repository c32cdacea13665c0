"""A sale in the model's types and in those of the wire: the same facts, both ways."""

from __future__ import annotations

import uuid

from appliance.model.ids import RequestKey
from appliance.model.sale import Line, Prices, Sale, TaxTotal, Tender, TenderKind
from appliance.wire import entries
from appliance.wire.requests import LineBody, TaxBody, TenderBody


def facts_of(sale: Sale) -> entries.SaleFacts:
    """What an entry says of `sale`."""
    return entries.SaleFacts(
        currency=sale.currency,
        total=sale.total_minor,
        tenders=tuple(
            TenderBody(kind=tender.kind.value, amount_minor=tender.amount_minor, source=tender.source)
            for tender in sale.tenders
        ),
        lines=tuple(
            LineBody(
                sku=line.sku,
                unit_price_minor=line.unit_price_minor,
                quantity_thousandths=line.quantity_thousandths,
                discount_minor=line.discount_minor,
                tax_code=line.tax_code,
                tax_rate_basis_points=line.tax_rate_basis_points,
            )
            for line in sale.lines
        ),
        sold_at_ms=sale.sold_at_ms,
        prices=sale.prices,
        taxes=tuple(
            TaxBody(
                tax_code=tax.tax_code,
                rate_basis_points=tax.rate_basis_points,
                net_minor=tax.net_minor,
                tax_minor=tax.tax_minor,
            )
            for tax in sale.taxes
        ),
        tip=sale.tip_minor,
        rounding=sale.rounding_minor,
        change=sale.change_minor,
        reference=sale.reference,
        capture="later" if sale.is_captured_later else "at_once",
        part_of=None if sale.part_of is None else sale.part_of.octets,
        partial="accepted" if sale.may_be_partial else "refused",
        remaining=sale.remaining_minor,
    )


def sale_of(facts: entries.SaleFacts) -> Sale:
    """The sale that an entry holds."""
    return Sale(
        currency=facts.currency,
        prices=Prices(facts.prices),
        lines=tuple(line_of(line) for line in facts.lines),
        taxes=tuple(tax_of(tax) for tax in facts.taxes),
        tenders=tuple(tender_of(tender) for tender in facts.tenders),
        total_minor=facts.total,
        tip_minor=facts.tip,
        rounding_minor=facts.rounding,
        change_minor=facts.change,
        sold_at_ms=facts.sold_at_ms,
        reference=facts.reference,
        is_captured_later=facts.capture == "later",
        remaining_minor=facts.remaining,
        part_of=None if facts.part_of is None else RequestKey(uuid.UUID(bytes=facts.part_of)),
        may_be_partial=facts.partial == "accepted",
    )


def line_of(body: LineBody) -> Line:
    """One line."""
    return Line(
        sku=body.sku,
        quantity_thousandths=body.quantity_thousandths,
        unit_price_minor=body.unit_price_minor,
        discount_minor=body.discount_minor,
        tax_code=body.tax_code,
        tax_rate_basis_points=body.tax_rate_basis_points,
    )


def tax_of(body: TaxBody) -> TaxTotal:
    """One tax total."""
    return TaxTotal(
        tax_code=body.tax_code,
        rate_basis_points=body.rate_basis_points,
        net_minor=body.net_minor,
        tax_minor=body.tax_minor,
    )


def tender_of(body: TenderBody) -> Tender:
    """One tender."""
    return Tender(kind=TenderKind(body.kind), amount_minor=body.amount_minor, source=body.source)
