"""What runs on this box, said by its TPM, for anybody who brings a nonce. Source: docs/formats/attestation.md."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.public.access import Access
from appliance.api.rate_limit import TokenBucket
from appliance.device.attest import Attestor
from appliance.model.errors import Rejected
from appliance.ports.clock import Clock

_NONCE: Final = re.compile(r"\A[0-9a-f]{64}\Z")
_QUOTES_PER_S: Final = 1
"""A TPM on a board needs up to a second for a quote, and the box itself needs the TPM each hour."""
_QUOTES_BURST: Final = 4


class AttestationPages:
    """`/attestation?nonce=<64 hex digits>`."""

    def __init__(self, *, attestor: Attestor, access: Access, clock: Clock) -> None:
        self._attestor = attestor
        self._access = access
        self._quotes = TokenBucket(per_second=_QUOTES_PER_S, burst=_QUOTES_BURST, clock=clock)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the route."""
        router.add_get("/attestation", self._attestation, name="attestation")

    async def _attestation(self, request: web.Request) -> web.Response:
        self._access.anybody()
        nonce = request.query.get("nonce", "")
        if not _NONCE.match(nonce):
            raise Rejected("question_malformed", "expected ?nonce= with 64 hexadecimal digits in lower case")
        self._quotes.take()
        return web.Response(
            body=msgspec.json.encode(await self._attestor.attest(bytes.fromhex(nonce))),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
