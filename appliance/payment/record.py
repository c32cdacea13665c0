"""Makes what happened permanent. After `Recorded` nothing is ever taken back, only added to."""

from __future__ import annotations

from appliance.ledger.ledger import Ledger
from appliance.model.payment import ClearedPayment, PaymentState, PreparedPayment, RecordedPayment
from appliance.payment.drafts import sale_draft
from appliance.payment.linked import Begun, begin


async def record_sale(cleared: ClearedPayment, ledger: Ledger, now_ms: int) -> tuple[RecordedPayment, Begun]:
    """One guarded entry for a sale whose tenders all hold by themselves. Raises as `linked.begin`."""
    begun = await begin(ledger, cleared.valid, sale_draft(cleared, now_ms), stands=True)
    return _recorded(cleared, PaymentState.APPROVED, begun.entry.seq), begun


def being_checked(prepared: PreparedPayment) -> RecordedPayment:
    """What is durable of a card payment while the provider is asked: its intent."""
    return _recorded(prepared.cleared, PaymentState.CHECKING, prepared.intent_seq)


def _recorded(cleared: ClearedPayment, state: PaymentState, seq: int) -> RecordedPayment:
    return RecordedPayment(
        key=cleared.valid.identity.key,
        state=state,
        entry_seqs=(seq,),
        total_minor=cleared.valid.sale.covers_minor,
        currency=cleared.valid.sale.currency,
        code=None,
    )
