"""A lost box's escrow on the local socket: the owner brings what its parcel proves, providers are asked by reading."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from aiohttp import web

from appliance.api.local.exchange import LARGEST_BYTES_MAX, json_answer, read_body
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.payment.lost_operations import lost_accounts, lost_operations
from appliance.payment.recovery import Recovered, Recovery
from appliance.wire.requests import Wire

_RECEIPT_CHARACTERS_MAX: Final = LARGEST_BYTES_MAX - 64


class _Ask(Wire, frozen=True, kw_only=True):
    receipt: Annotated[str, msgspec.Meta(max_length=_RECEIPT_CHARACTERS_MAX)]


class EscrowRoutes:
    """`/escrow/ask`.

    Args:
        trust: what the owner says of logs, read anew: the lost one's keys may have come a minute ago.
    """

    def __init__(self, *, recovery: Recovery, trust: Callable[[], Trust], log_id: bytes) -> None:
        self._recovery = recovery
        self._trust = trust
        self._log_id = log_id

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the route."""
        router.add_post("/escrow/ask", self._ask, name="local_escrow_ask")

    async def _ask(self, request: web.Request) -> web.Response:
        ask = await read_body(request, _Ask, size_max=LARGEST_BYTES_MAX)
        try:
            receipt = base64.b64decode(ask.receipt, validate=True)
        except binascii.Error:
            raise Rejected("escrow_malformed", "expected a receipt in base64") from None
        trust = self._trust()
        verified = verify_receipt(receipt, trust.keys)
        if verified.log_id == self._log_id:
            raise Rejected("escrow_own_log", "these entries are of this box's own log: it asks for itself")
        lost = lost_operations(verified.entries)
        accounts = lost_accounts(verified.entries)
        found = await self._recovery.ask(verified.log_id, trust.logs[verified.log_id].origin, lost, accounts)
        return json_answer([_plain(each) for each in found])


def _plain(found: Recovered) -> dict[str, object]:
    lost = found.operation
    return {
        "payment": str(lost.payment),
        "operation": lost.name,
        "kind": lost.kind,
        "provider": lost.provider,
        "amount_minor": lost.money.amount_minor,
        "currency": lost.money.currency,
        "prepared_ms": lost.prepared_ms,
        "state": found.state,
        "reference": found.reference,
        "code": found.code,
        "seq": found.seq,
        "is_final": found.is_final,
        "account_lost": found.account_lost,
        "account_here": found.account_here,
    }
