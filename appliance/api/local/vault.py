"""The vault on the local socket: names and bindings of tokens, data keys, a rotation, the end of a token. No token."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected
from appliance.model.provider_token import TokenName, is_token_name
from appliance.payment.vault.rows import all_tokens, kept_count
from appliance.payment.vault.safe import Safe
from appliance.payment.vault.vault import Vault
from appliance.wire.requests import Name, Text, Wire

ACTOR: Final = "operator"
LISTED_MAX: Final = 1_000


class _Forget(Wire, frozen=True, kw_only=True):
    name: Name
    reason: Annotated[Text, msgspec.Meta(min_length=1)]


class VaultRoutes:
    """`/vault`, `/vault/rotate` and `/vault/forget`."""

    def __init__(self, *, vault: Vault, safe: Safe, ledger: Ledger) -> None:
        self._vault = vault
        self._safe = safe
        self._ledger = ledger

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/vault", self._show, name="local_vault")
        router.add_post("/vault/rotate", self._rotate, name="local_vault_rotate")
        router.add_post("/vault/forget", self._forget, name="local_vault_forget")

    async def _show(self, request: web.Request) -> web.Response:
        """Kept tokens behind the name `after`, at most 1,000; and every data key with how many lie under it."""
        after = request.query.get("after", "")
        page = await self._ledger.read(lambda connection: all_tokens(connection, after=after, limit=LISTED_MAX))
        held = await self._safe.names()
        return json_answer(
            {
                "tokens": [
                    {
                        "name": each.binding.name,
                        "provider": each.binding.provider,
                        "purposes": list(each.binding.purposes),
                        "expires_ms": each.expires_ms,
                        "has_customer": each.under is not None,
                        "seq": each.seq,
                        "is_held": each.binding.name in held,
                    }
                    for each in page
                ],
                "count": await self._ledger.read(kept_count),
                "keys": [
                    {"key": f"{each.key_id:016x}", "made_ms": each.made_ms, "tokens": each.tokens}
                    for each in await self._safe.keys()
                ],
                "trouble": self._vault.trouble,
            }
        )

    async def _rotate(self, _request: web.Request) -> web.Response:
        return json_answer({"key": f"{await self._vault.rotate(ACTOR):016x}"})

    async def _forget(self, request: web.Request) -> web.Response:
        forget = await read_body(request, _Forget)
        refuse_card_numbers((forget.reason,))
        if not is_token_name(forget.name):
            raise Rejected("token_name_malformed", "expected a token's name: tok_ and 26 characters")
        seq = await self._vault.forget(TokenName(forget.name), actor=ACTOR, reason=forget.reason)
        return json_answer({"seq": seq})
