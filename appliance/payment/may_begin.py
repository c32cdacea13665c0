"""What must hold where a payment's first entry is written."""

from __future__ import annotations

from appliance.ledger.guard import KeysUnused
from appliance.model.payment import ValidPayment
from appliance.model.sale import TenderKind
from appliance.model.voucher import VoucherId
from appliance.payment.guards import unused
from appliance.payment.voucher_rows import VouchersCover


def may_begin(valid: ValidPayment, now_ms: int) -> KeysUnused | VouchersCover:
    """The key is fresh, and vouchers among the tenders are worth what the sale takes of them."""
    fresh = unused(valid.identity.key)
    uses = tuple(
        (VoucherId(bytes.fromhex(tender.source or "")), tender.amount_minor)
        for tender in valid.sale.tenders
        if tender.kind is TenderKind.VOUCHER
    )
    return VouchersCover(fresh=fresh, uses=uses, currency=valid.sale.currency, now_ms=now_ms) if uses else fresh
