"""Looks at a payment before it is changed, and looks again when it changed meanwhile.

Decisions are made on a look, outside the writer; the guard `Unchanged` holds them true in the writer's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

from appliance.ledger.attempts import look_again
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.payment import Identity
from appliance.payment.guards import PAYMENT_CHANGED
from appliance.payment.records import KnownRequest, StandingPayment, find_payment, find_request
from appliance.payment.repeats import judge, judge_used

_RACES_MAX: Final = 5


async def look(ledger: Ledger, identity: Identity, payment: RequestKey) -> StandingPayment | None:
    """How `payment` stands for a new request of `identity`; None: nothing is recorded under its key.

    Raises:
        AlreadyRecorded: the request is in the ledger.
        Rejected: its key was used otherwise, or `payment` is the key of something else.
    """
    if identity.key == payment:
        raise Rejected("key_reused", "a request needs a key of its own, not the key that it speaks of")

    def read(connection: sqlite3.Connection) -> tuple[KnownRequest | None, KnownRequest | None, StandingPayment | None]:
        return (
            find_request(connection, identity.key),
            find_request(connection, payment),
            find_payment(connection, payment),
        )

    known, other, standing = await ledger.read(read)
    await judge(ledger, identity, payment, known)
    if other is not None and standing is None:
        raise Rejected("payment_unknown", f"this key belongs to a {other.verb}, not to a payment")
    return standing


async def until_unchanged(
    ledger: Ledger, identity: Identity, payment: RequestKey, attempt: Callable[[], Awaitable[None]]
) -> None:
    """Try until nothing came between the look and the write.

    Raises:
        AlreadyRecorded: the same request came in between.
        Rejected: what `attempt` raises.
        Unavailable: `payment_busy`: something came in between, each time.
    """
    busy = Unavailable("payment_busy", "the payment keeps changing; ask again")
    try:
        await look_again(attempt, after=PAYMENT_CHANGED, times_max=_RACES_MAX, busy=busy)
    except Rejected as refusal:
        raise await judge_used(ledger, identity, payment, refusal) from None
