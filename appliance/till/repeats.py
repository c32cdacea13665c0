"""A request to the till that comes again: the same gets the same answer, another under its key is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.invariants import present
from appliance.model.payment import Identity
from appliance.payment.guards import KEY_USED
from appliance.payment.records import KnownRequest, find_request
from appliance.payment.repeats import AlreadyRecorded, judge
from appliance.ports.admission import Admission

_RECORDED: Final = "what was recorded is found under its key"


async def once(
    ledger: Ledger, admission: Admission, identity: Identity, write: Callable[[], Awaitable[None]]
) -> KnownRequest:
    """Where the request is recorded: by `write` now, or before.

    Raises:
        Rejected: `key_reused`: the key was used for something else; and what `write` raises.
        Unavailable: `quarantined`: what the log says of a drawer or a period may not be all.
    """
    known = await _repeated(ledger, identity)
    if known is not None:
        return known
    admission.admit_undo()
    try:
        await write()
    except Rejected as refusal:
        if refusal.code != KEY_USED:  # else the same request came twice at once, or the next look says what else
            raise
    return present(await _repeated(ledger, identity), _RECORDED)


async def _repeated(ledger: Ledger, identity: Identity) -> KnownRequest | None:
    """What this very request was recorded as; None when its key was never used."""
    known = await ledger.read(lambda connection: find_request(connection, identity.key))
    try:
        await judge(ledger, identity, None, known)
    except AlreadyRecorded:
        return known
    return None
