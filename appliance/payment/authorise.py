"""Where money may begin to move: cash holds by itself, a card needs a durable intent first."""

from __future__ import annotations

from appliance.ledger.ledger import Ledger
from appliance.model.ids import ProviderKey, ProviderName
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.model.payment import ClearedPayment, PreparedPayment
from appliance.model.sale import Tender
from appliance.payment.drafts import authorisation_draft
from appliance.payment.linked import begin


async def prepare(
    cleared: ClearedPayment, card: Tender, provider: ProviderName, kind: OperationKind, ledger: Ledger, now_ms: int
) -> PreparedPayment:
    """Make the intent of a card payment durable; only then may the provider be asked. Raises as `linked.begin`."""
    identity = cleared.valid.identity
    name = operation_id(identity.key, 0)
    operation = Operation(
        operation_id=name,
        kind=kind,
        provider=provider,
        payment_key=identity.key,
        provider_key=ProviderKey(name),
        money=Money(card.amount_minor, cleared.valid.sale.currency),
        prepared_ms=now_ms,
        terminal=identity.terminal,
        target=None,
        source=card.source,
        is_retry=bool(cleared.valid.retry_of),
    )
    begun = await begin(ledger, cleared.valid, authorisation_draft(cleared, operation), stands=False)
    return PreparedPayment(
        cleared=cleared,
        operation=operation,
        intent_seq=begun.entry.seq,
        intent_hash=begun.entry.entry_hash,
        outlived=begun.outlived,
    )
