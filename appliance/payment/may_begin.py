"""What must hold where a payment's first entry is written."""

from __future__ import annotations

from appliance.ledger.guard import AllOf, Guard
from appliance.model.payment import ValidPayment
from appliance.model.provider_token import TokenName, is_token_name
from appliance.model.sale import TenderKind
from appliance.model.voucher import VoucherId
from appliance.payment.guards import unused
from appliance.payment.vault.rows import TokenUsable
from appliance.payment.voucher_rows import VouchersCover


def may_begin(valid: ValidPayment, now_ms: int) -> Guard:
    """The key is fresh, vouchers among the tenders are worth what the sale takes of them, and a token may be used."""
    fresh = unused(valid.identity.key)
    card = valid.sale.card_tender
    uses = tuple(
        (VoucherId(bytes.fromhex(tender.source or "")), tender.amount_minor)
        for tender in valid.sale.tenders
        if tender.kind is TenderKind.VOUCHER
    )
    covered: Guard = fresh
    if uses:
        covered = VouchersCover(fresh=fresh, uses=uses, currency=valid.sale.currency, now_ms=now_ms)
    if card is None or card.source is None or not is_token_name(card.source):
        return covered
    return AllOf(guards=(covered, TokenUsable(name=TokenName(card.source), now_ms=now_ms)))
