"""Where money may begin to move: cash holds by itself, a card needs a durable intent first."""

from __future__ import annotations

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderKey
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.model.payment import ClearedPayment, PreparedPayment
from appliance.model.sale import Tender
from appliance.payment.drafts import authorisation_draft
from appliance.payment.guards import unused
from appliance.payment.repeats import judge_used


async def prepare(cleared: ClearedPayment, card: Tender, ledger: Ledger, now_ms: int) -> PreparedPayment:
    """Make the intent of a card payment durable; only then may the provider be asked.

    Raises:
        AlreadyRecorded: the request is in the ledger.
        Rejected: the key was used otherwise.
        Unavailable: nothing was written.
        OutcomeUnknown: the commit failed; the process ends and recovery decides. The provider is not asked.
    """
    identity = cleared.valid.identity
    name = operation_id(identity.key, 0)
    operation = Operation(
        operation_id=name,
        kind=OperationKind.RESERVE if cleared.valid.sale.is_captured_later else OperationKind.AUTHORISE,
        payment_key=identity.key,
        provider_key=ProviderKey(name),
        money=Money(card.amount_minor, cleared.valid.sale.currency),
        prepared_ms=now_ms,
        terminal=identity.terminal,
        target=None,
        source=card.source,
    )
    try:
        (entry,) = await ledger.append(
            [authorisation_draft(cleared.valid, operation)], unused(identity.key), purpose=Purpose.INTENT
        )
    except Rejected as refusal:
        raise await judge_used(ledger, identity, identity.key, refusal) from None
    return PreparedPayment(cleared=cleared, operation=operation, intent_seq=entry.seq, intent_hash=entry.entry_hash)
