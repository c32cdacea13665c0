"""A durable intent reaches a provider once."""

from __future__ import annotations

import pytest

from appliance.model.errors import Bug
from appliance.model.ids import ProviderKey, TerminalId, new_request_key
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.model.payment import ClearedPayment, Identity, PreparedPayment, ValidPayment
from appliance.model.sale import Line, Prices, Sale, TaxTotal, Tender, TenderKind
from appliance.model.screening import Judgement, Verdict

KEY = new_request_key(1_790_000_000_000, bytes(10))
SALE = Sale(
    currency="EUR",
    prices=Prices.TAX_INCLUDED,
    lines=(
        Line(
            sku="A1",
            quantity_thousandths=1000,
            unit_price_minor=1190,
            discount_minor=0,
            tax_code="S",
            tax_rate_basis_points=1900,
        ),
    ),
    taxes=(TaxTotal(tax_code="S", rate_basis_points=1900, net_minor=1000, tax_minor=190),),
    tenders=(Tender(kind=TenderKind.CARD, amount_minor=1190, source=None),),
    total_minor=1190,
    tip_minor=0,
    rounding_minor=0,
    change_minor=0,
    sold_at_ms=1_790_000_000_000,
    reference="",
)


def test_a_prepared_payment_is_spent_once_and_a_second_time_is_a_bug() -> None:
    identity = Identity(
        key=KEY, terminal=TerminalId("till-1"), payload_hash=bytes(32), signed=b"", received_ms=1_790_000_000_000
    )
    operation = Operation(
        operation_id=operation_id(KEY, 0),
        kind=OperationKind.AUTHORISE,
        payment_key=KEY,
        provider_key=ProviderKey(operation_id(KEY, 0)),
        money=Money(1190, "EUR"),
        prepared_ms=1_790_000_000_000,
        terminal="till-1",
        target=None,
        source=None,
    )
    prepared = PreparedPayment(
        cleared=ClearedPayment(
            valid=ValidPayment(identity=identity, sale=SALE, personal=()),
            verdict=Verdict(at_ms=0, judgement=Judgement.PASSED),
        ),
        operation=operation,
        intent_seq=2,
        intent_hash=bytes(32),
    )
    assert prepared.spend() == operation
    with pytest.raises(Bug, match="sent to the provider once"):
        prepared.spend()
