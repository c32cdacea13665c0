"""Bugs of believing what is told unasked: webhooks."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from appliance.adapters import stripe_webhook
from appliance.model.operation import OPEN, OperationState
from appliance.payment.operation_records import find_operation
from appliance.payment.records import entry_hash_at
from appliance.payment.settled import Settled
from appliance.payment.webhooks import Webhooks
from appliance.ports.hint import Hint
from tests.world.bug import bug, put


@bug("Stripe signed it and says that it is paid: it is paid.", seed=36)
def trust_a_webhook() -> None:
    right = Webhooks._look_into

    async def trust(self: Webhooks, hint: Hint) -> str:
        name = hint.operation
        if name is None or not hint.says_paid:
            return await right(self, hint)
        known = await self._ledger.read(lambda connection: find_operation(connection, name))
        if known is None or known.state not in OPEN:
            return await right(self, hint)
        intent_hash = await self._ledger.read(lambda connection: entry_hash_at(connection, known.intent_seq))
        paid = Settled(state=OperationState.CONFIRMED, reference=hint.reference, code=None)
        await self._resolver._operations.record(known.operation, paid, intent_hash)
        return "settled"

    put(Webhooks, _look_into=trust)


@bug("The door of the relay is ours: who else would send a webhook?", seed=4)
def believe_any_signature() -> None:
    def believe(self: stripe_webhook.StripeWebhooks, body: bytes, headers: Mapping[str, str]) -> Hint:
        return stripe_webhook._hint(msgspec.json.decode(body, type=stripe_webhook._Event))

    put(stripe_webhook.StripeWebhooks, read=believe)


@bug("A webhook that took its time is genuine all the same.", seed=2)
def take_a_webhook_however_late() -> None:
    put(stripe_webhook, TOLERANCE_S=10**9)
