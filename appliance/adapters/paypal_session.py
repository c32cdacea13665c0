"""How a question travels to PayPal: plain REST with a bearer token, one request at a time, each sent once.

The token is fetched before a request leaves, and early enough that it does not expire under way; a request whose token
could not be had was provably not sent.

Source: developer.paypal.com/api/rest/authentication, developer.paypal.com/api/rest/requests,
developer.paypal.com/api/rest/reference/idempotency.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from appliance.adapters.provider_http import Line, Reply, RestLine, read
from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import NotSent, Refused, Unknown

_EARLY_MS: Final = MINUTE_MS
_ID: Final = re.compile(r"\A[0-9A-Za-z_-]{8,200}\Z")


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    # It becomes a header. RFC 6750 section 2.1 has the characters of a bearer token; PayPal's have some hundred.
    access_token: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z._~+/-]{1,4096}=*\Z")]
    expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PayPalSettings:
    """Where PayPal answers and who we are to it.

    Attributes:
        customer_wait_ms: how long a customer may take.
        proxy: through which HTTPS leaves; None: directly.
    """

    api_base: str
    client_id: str
    client_secret: Secret
    customer_wait_ms: int
    proxy: str | None = None


class PayPalSession:
    """One account's connection pool."""

    def __init__(self, *, settings: PayPalSettings, clock: Clock, line: Line | None = None) -> None:
        """Raises Rejected for a client id that is none, or an address that is neither HTTPS nor this machine.

        Args:
            line: the way there; None: HTTP to the address of the settings.
        """
        if not _ID.match(settings.client_id):
            raise Rejected("provider_key_invalid", "PayPal's client id is letters, digits, - and _")
        self._settings = settings
        self._clock = clock
        self._token = ""
        self._token_ends_ms = 0
        self._line: Line = RestLine(settings.api_base, proxy=settings.proxy) if line is None else line
        self.base = self._line.base

    async def ask(
        self, method: str, path: str, *, key: str | None = None, body: dict[str, Any] | None = None
    ) -> Reply | NotSent | Refused | Unknown:
        """One request, once: a Reply of any status, or what is known when none arrived whole."""
        refused = await self._renew_token()
        if refused is not None:
            return refused
        headers = {"Authorization": f"Bearer {self._token}", "Prefer": "return=representation"}
        if key is not None:
            headers["PayPal-Request-Id"] = key
        reply = await self._line.send(method, path, headers, None if body is None else msgspec.json.encode(body))
        if isinstance(reply, Reply) and reply.status == 401:
            self._token_ends_ms = 0  # revoked early; the next question fetches a new one
        return reply

    async def close(self) -> None:
        await self._line.close()

    async def _renew_token(self) -> NotSent | Refused | None:
        if self._clock.monotonic_ms() < self._token_ends_ms:
            return None
        pair = f"{self._settings.client_id}:{self._settings.client_secret.reveal_text()}".encode()
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        asked_ms = self._clock.monotonic_ms()
        reply = await self._line.send("POST", "/v1/oauth2/token", headers, b"grant_type=client_credentials")
        if not isinstance(reply, Reply):
            return NotSent(reason=reply.reason)
        if reply.status in (400, 401, 403):
            return Refused(code="credentials_refused", detail="PayPal refuses this box's client id and secret")
        token: _Token | None = read(reply.body, _Token) if reply.is_success else None
        if token is None:
            return NotSent(reason="token_unavailable")
        self._token = token.access_token
        self._token_ends_ms = asked_ms + token.expires_in * 1000 - _EARLY_MS
        return None
