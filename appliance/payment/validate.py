"""Turns an authenticated sale into a valid one: the type it returns is the proof that it adds up."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected
from appliance.model.ids import request_key
from appliance.model.limits import DAY_MS, KEY_AGE_MAX_MS
from appliance.model.money import exponent
from appliance.model.payment import AuthenticatedRequest, ValidPayment
from appliance.model.sale import TAX_UNSTATED, Line, Prices, Sale, Tender, TenderKind, check_cash_rounding
from appliance.model.voucher import voucher_of
from appliance.payment.drafts import persons
from appliance.payment.sale_facts import line_of, tax_of, tender_of
from appliance.wire.requests import PaymentBody, TenderBody


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopRules:
    """What this shop sells in."""

    currency: str
    cash_rounding_minor: int
    amount_minor_max: int


def validate(request: AuthenticatedRequest[PaymentBody], rules: ShopRules) -> ValidPayment:
    """The sale of `request`, complete and adding up.

    Raises:
        Rejected: the first rule that does not hold, by its code; nothing was written.
    """
    body = request.body
    refuse_card_numbers(_texts(body))
    exponent(body.currency)
    if body.currency != rules.currency:
        raise Rejected("currency_not_sold", f"this shop sells in {rules.currency}")
    sale = Sale(
        currency=body.currency,
        prices=Prices(body.prices),
        lines=_lines(body),
        taxes=tuple(tax_of(tax) for tax in body.taxes),
        tenders=tuple(_tender(tender) for tender in body.tenders),
        total_minor=_total_minor(body),
        tip_minor=body.tip_minor,
        rounding_minor=body.rounding_minor,
        change_minor=body.change_minor,
        sold_at_ms=_sold_at_ms(body, request.identity.received_ms),
        reference=body.reference,
        is_captured_later=body.capture == "later",
        remaining_minor=body.remaining_minor,
        part_of=None if body.part_of is None else request_key(body.part_of),
        may_be_partial=body.partial == "accepted",
    )
    if sale.total_minor > rules.amount_minor_max:
        raise Rejected("amount_too_large", f"expected at most {rules.amount_minor_max} minor units")
    check_cash_rounding(sale, rules.cash_rounding_minor)
    return ValidPayment(
        identity=request.identity,
        sale=sale,
        personal=persons(cashier=body.cashier, customer=body.customer),
        retry_of=tuple(dict.fromkeys(request_key(key) for key in body.retry_of)),
    )


def _lines(body: PaymentBody) -> tuple[Line, ...]:
    if not body.lines:
        if body.part_of is not None:
            return ()  # they stand in the first part
        if not body.amount_minor:
            raise Rejected("amount_not_positive", "a sale needs lines, or an amount_minor above zero")
        return (
            Line(
                sku="",
                quantity_thousandths=1000,
                unit_price_minor=body.amount_minor,
                discount_minor=0,
                tax_code=TAX_UNSTATED,
                tax_rate_basis_points=0,
            ),
        )
    if body.amount_minor is not None:
        raise Rejected("amount_and_lines", "a sale is stated by its lines or by amount_minor, not by both")
    return tuple(line_of(line) for line in body.lines)


def _tender(body: TenderBody) -> Tender:
    """From here on a voucher goes by its id: its code is money, and stays at the door."""
    tender = tender_of(body)
    if tender.kind is TenderKind.VOUCHER:
        return replace(tender, source=voucher_of(body.source or "").hex())
    return tender


def _total_minor(body: PaymentBody) -> int:
    if body.part_of is not None:
        if body.amount_minor is None or body.total_minor is not None:
            raise Rejected("part_malformed", "a later part says by amount_minor what it covers, and states no total")
        return body.amount_minor
    stated = body.amount_minor if body.total_minor is None else body.total_minor
    if stated is None:
        raise Rejected("total_missing", "a sale with lines states its total_minor")
    return stated


def _sold_at_ms(body: PaymentBody, received_ms: int) -> int:
    sold_at_ms = received_ms if body.sold_at_ms is None else body.sold_at_ms
    if not received_ms - KEY_AGE_MAX_MS <= sold_at_ms <= received_ms + DAY_MS:
        raise Rejected("sold_at_out_of_range", "a sale is at most 90 days old and at most one day ahead of the box")
    return sold_at_ms


def _texts(body: PaymentBody) -> tuple[str, ...]:
    """Every member that takes free text."""
    return (
        body.reference,
        body.cashier or "",
        body.customer or "",
        # A voucher's code has a checksum of its own, and may hold any run of digits.
        *(tender.source or "" for tender in body.tenders if tender.kind != "voucher"),
        *(line.sku for line in body.lines),
        *(line.tax_code for line in body.lines),
        *(tax.tax_code for tax in body.taxes),
    )
