"""A request to the till that comes again: the same gets the same answer, another under its key is refused."""

from __future__ import annotations

from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.payment import Identity
from appliance.payment.records import find_request
from appliance.payment.repeats import AlreadyRecorded, judge
from appliance.till.records import TillRequest, find_till_request


async def repeated(ledger: Ledger, identity: Identity) -> TillRequest | None:
    """What this very request was answered with; None when its key was never used.

    Raises:
        Rejected: `key_reused`: the key was used for something else.
    """
    key = identity.key
    of_till, of_payment = await ledger.read(
        lambda connection: (find_till_request(connection, key), find_request(connection, key))
    )
    if of_payment is not None:
        raise Rejected("key_reused", "this idempotency key was used for a payment; make a new key")
    try:
        await judge(ledger, identity, key, None if of_till is None else of_till.known)
    except AlreadyRecorded:
        return of_till
    return None
