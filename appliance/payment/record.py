"""Makes what happened permanent. After `Recorded` nothing is ever taken back, only added to."""

from __future__ import annotations

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.payment import ClearedPayment, PaymentState, PreparedPayment, RecordedPayment
from appliance.payment.drafts import sale_draft
from appliance.payment.guards import unused
from appliance.payment.repeats import judge_used


async def record_sale(cleared: ClearedPayment, ledger: Ledger, now_ms: int) -> RecordedPayment:
    """One guarded entry for a sale whose tenders all hold by themselves.

    Raises:
        AlreadyRecorded: the request is in the ledger.
        Rejected: the key was used otherwise, or the payment was cancelled before it came.
        Unavailable: nothing was written.
        OutcomeUnknown: the commit failed; the process ends and recovery decides.
    """
    identity = cleared.valid.identity
    try:
        (entry,) = await ledger.append(
            [sale_draft(cleared.valid, now_ms)], unused(identity.key), purpose=Purpose.INTENT
        )
    except Rejected as refusal:
        raise await judge_used(ledger, identity, identity.key, refusal) from None
    return _recorded(cleared, PaymentState.APPROVED, entry.seq)


def being_checked(prepared: PreparedPayment) -> RecordedPayment:
    """What is durable of a card payment while the provider is asked: its intent."""
    return _recorded(prepared.cleared, PaymentState.CHECKING, prepared.intent_seq)


def _recorded(cleared: ClearedPayment, state: PaymentState, seq: int) -> RecordedPayment:
    return RecordedPayment(
        key=cleared.valid.identity.key,
        state=state,
        entry_seqs=(seq,),
        total_minor=cleared.valid.sale.total_minor,
        currency=cleared.valid.sale.currency,
        code=None,
    )
