"""Where money may begin to move: cash holds by itself, a card needs a durable intent first."""

from __future__ import annotations

from dataclasses import replace

from appliance.ledger.ledger import Ledger
from appliance.model.ids import ProviderKey, ProviderName, TerminalId
from appliance.model.money import Money
from appliance.model.offline import Exposure, OfflineLimits, OfflineRefused
from appliance.model.operation import Operation, OperationKind, operation_id
from appliance.model.payment import ClearedPayment, PreparedPayment
from appliance.model.sale import Tender
from appliance.payment.drafts import authorisation_draft
from appliance.payment.linked import Begun, begin
from appliance.payment.offline_records import WithinOfflineLimits


async def prepare(
    cleared: ClearedPayment,
    card: Tender,
    provider: ProviderName,
    kind: OperationKind,
    ledger: Ledger,
    now_ms: int,
    *,
    offline: OfflineLimits | None = None,
) -> PreparedPayment:
    """Make the intent of a card payment durable; only then may the provider be asked.

    Args:
        offline: how much may be accepted without a bank, where the provider can do that at all.
    Raises: as `linked.begin`.
    """
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
        may_be_partial=cleared.valid.sale.may_be_partial,
    )
    operation, begun = await _begin(cleared, operation, offline, ledger)
    return PreparedPayment(
        cleared=cleared,
        operation=operation,
        intent_seq=begun.entry.seq,
        intent_hash=begun.entry.entry_hash,
        outlived=begun.outlived,
    )


async def _begin(
    cleared: ClearedPayment, operation: Operation, limits: OfflineLimits | None, ledger: Ledger
) -> tuple[Operation, Begun]:
    """The intent, with the limits reserved if they leave room; else it goes to the bank or nowhere, and says why."""
    if limits is not None:
        none = Exposure()
        exceeded = limits.exceeded(operation.money.amount_minor, terminal=none, box=none, now_ms=operation.prepared_ms)
        if exceeded is None:
            allowed = replace(operation, may_accept_offline=True)
            within = WithinOfflineLimits(
                limits=limits,
                terminal=TerminalId(operation.terminal),
                amount_minor=operation.money.amount_minor,
                now_ms=operation.prepared_ms,
            )
            draft = authorisation_draft(cleared, allowed)
            try:
                return allowed, await begin(ledger, cleared.valid, draft, stands=False, within=within)
            except OfflineRefused as refused:
                exceeded = refused.exceeded
        operation = replace(operation, offline_exceeded=exceeded)
    return operation, await begin(ledger, cleared.valid, authorisation_draft(cleared, operation), stands=False)
