"""What a key that was used before means for the request that brings it again.

Owns the comparison with the request of then. Must never let a used key begin anything.

* The ledger keeps a commitment to the payload, its salt lies in the disclosures of the request: comparing opens them.
  A key that was never used costs nothing of this.
* When they were erased, the contents cannot be told apart any more, on purpose. Then key, terminal and payment decide,
  and the caller gets what was recorded, with its amount and its receipt.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.ledger.draft import Disclosure
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.payment import Identity
from appliance.payment.drafts import payload_commitment
from appliance.payment.guards import KEY_USED
from appliance.payment.records import KnownRequest, committed_names, find_request
from appliance.wire.entries import PAYLOAD


class AlreadyRecorded(Rejected):
    """This very request is in the ledger: not an error for the caller, who gets the recorded result."""

    def __init__(self) -> None:
        super().__init__("already_recorded", "the same request is in the ledger")


async def is_used(ledger: Ledger, key: RequestKey) -> bool:
    """Whether the ledger remembers what `key` was used for."""
    return await ledger.read(lambda connection: find_request(connection, key)) is not None


async def judge_used(ledger: Ledger, identity: Identity, payment: RequestKey, refusal: Rejected) -> Rejected:
    """What a refused append means: the same request again, another payload, a tombstone; or what `refusal` says."""
    if refusal.code != KEY_USED:
        return refusal
    known = await ledger.read(lambda connection: find_request(connection, identity.key))
    try:
        await judge(ledger, identity, payment, known)
    except Rejected as verdict:
        return verdict
    return refusal


async def judge(ledger: Ledger, identity: Identity, payment: RequestKey | None, known: KnownRequest | None) -> None:
    """Return when the key was never used.

    Args:
        payment: the key of the payment that the request is about; for a payment, its own; None for an act at the till.
        known: what the key was used for.
    Raises:
        AlreadyRecorded: for the same request.
        Rejected: `payment_cancelled`: for a tombstone; `key_reused`: for another payload.
    """
    if known is None:
        return
    if known.is_tombstone:
        raise Rejected("payment_cancelled", "this payment was reversed or aborted before it came")
    if known.terminal != identity.terminal or known.payment != payment or await _differs(ledger, identity, known):
        raise Rejected("key_reused", "this idempotency key was used with another payload; make a new key")
    raise AlreadyRecorded


async def _differs(ledger: Ledger, identity: Identity, known: KnownRequest) -> bool:
    """The payload is provably another one."""
    disclosed = await ledger.disclosures(known.seq)
    if payload_commitment(disclosed, identity.payload_hash) == known.payload:
        return False
    return await _is_whole(ledger, known, disclosed)


async def _is_whole(ledger: Ledger, known: KnownRequest, disclosed: Sequence[Disclosure]) -> bool:
    """Whatever the entry commits to was opened: nothing was erased, nor pruned."""
    committed = await ledger.read(lambda connection: committed_names(connection, known.seq))
    return committed is not None and committed == {PAYLOAD, *(each.name for each in disclosed)}
