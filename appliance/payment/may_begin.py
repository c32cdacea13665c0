"""What must hold where a payment's first entry is written."""

from __future__ import annotations

from appliance.ledger.guard import AllOf, Guard
from appliance.model.payment import ValidPayment
from appliance.model.provider_token import TokenName, is_token_name
from appliance.model.sale import TenderKind
from appliance.model.voucher import VoucherId
from appliance.payment.guards import unused
from appliance.payment.parts import PartAllowed
from appliance.payment.vault.rows import TokenUsable
from appliance.payment.voucher_rows import VouchersCover


def may_begin(valid: ValidPayment, now_ms: int) -> Guard:
    """The key is fresh, vouchers are worth what is taken of them, a part fits its sale, a token may be used."""
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
    guards = [covered]
    if valid.sale.part_of is not None or valid.retry_of:
        guards.append(PartAllowed(valid=valid))
    if card is not None and card.source is not None and is_token_name(card.source):
        guards.append(TokenUsable(name=TokenName(card.source), now_ms=now_ms))
    return covered if len(guards) == 1 else AllOf(guards=tuple(guards))
