"""How a question travels to Coinbase Business: plain REST, each request under a token of its own, each sent once.

Rules:
- A token is signed for one method and one path and lives for two minutes. Its times are by Coinbase's clock, as far as
  an answer told it: a box whose clock is wrong still sells.
- The key is read once and never told to anybody; what it signs is a bearer token, and is never logged either.

Source: docs.cdp.coinbase.com/get-started/authentication/jwt-authentication (claims, two minutes, both kinds of keys),
docs.cdp.coinbase.com/api-reference/v2/idempotency (`X-Idempotency-Key` is a UUID v4, or refused).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from appliance.adapters.provider_http import Line, Reply, RestLine
from appliance.config.secret import Secret
from appliance.crypto import cose
from appliance.crypto.jws import to_base64url
from appliance.crypto.signing_key import SigningKey, ed25519_from_seed, from_pem
from appliance.model.errors import Rejected
from appliance.ports.clock import Clock
from appliance.ports.provider import NotSent, Unknown

TOKEN_S: Final = 120
_NAME: Final = re.compile(r"\A[0-9A-Za-z/_-]{8,200}\Z")
_PAIR_BYTES: Final = 64
_KEY_INVALID: Final = "expected the private key as Coinbase gives it: PEM of a P-256 key, or Ed25519 in Base64"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinbaseSettings:
    """Where Coinbase answers and who we are to it.

    Attributes:
        key_name: the id of the CDP key.
        proxy: through which HTTPS leaves; None: directly.
    """

    api_base: str
    key_name: str
    key: Secret
    proxy: str | None = None


class CoinbaseSession:
    """One account's connections."""

    def __init__(self, *, settings: CoinbaseSettings, clock: Clock, line: Line | None = None) -> None:
        """Raises Rejected for a name or a key that is none, or an address that is neither HTTPS nor this machine.

        Args:
            line: the way there; None: HTTP to the address of the settings.
        """
        if not _NAME.match(settings.key_name):
            raise Rejected("provider_key_invalid", "the name of Coinbase's key is letters, digits, /, _ and -")
        self._name = settings.key_name
        self._key = _signing_key(settings.key)
        self._clock = clock
        self._heard_ms: int | None = None
        self._line: Line = RestLine(settings.api_base, proxy=settings.proxy) if line is None else line
        parts = urlsplit(self._line.base)
        self._place = parts.netloc + parts.path

    @property
    def base(self) -> str:
        return self._line.base

    def now_ms(self) -> int:
        """Coinbase's clock, as far as it is known; Unix milliseconds."""
        return self._clock.now_ms() if self._heard_ms is None else self._clock.monotonic_ms() + self._heard_ms

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        key: str | None = None,
        body: dict[str, Any] | None = None,
    ) -> Reply | NotSent | Unknown:
        """One request, once: a Reply of any status, or what is known when none arrived whole.

        Args:
            key: ours for the operation; Coinbase gets a UUID v4 made of it, always the same one.
        """
        headers = {"Authorization": f"Bearer {self._token(method, path)}"}
        if key is not None:
            headers["X-Idempotency-Key"] = idempotency_key(key)
        there = path if not query else f"{path}?{urlencode(query)}"
        reply = await self._line.send(method, there, headers, None if body is None else msgspec.json.encode(body))
        if isinstance(reply, Reply) and reply.date_ms is not None:
            self._heard_ms = reply.date_ms - self._clock.monotonic_ms()
        return reply

    async def close(self) -> None:
        await self._line.close()

    def _token(self, method: str, path: str) -> str:
        now_s = self.now_ms() // 1000
        algorithm = "ES256" if self._key.algorithm == cose.ES256 else "EdDSA"
        header = {"alg": algorithm, "kid": self._name, "nonce": secrets.token_hex(16), "typ": "JWT"}
        claims = {
            "iss": "cdp",
            "sub": self._name,
            "nbf": now_s,
            "exp": now_s + TOKEN_S,
            "uri": f"{method} {self._place}{path}",
        }
        signed = b".".join(to_base64url(msgspec.json.encode(each)) for each in (header, claims))
        return (signed + b"." + to_base64url(self._key.sign(signed))).decode()


def idempotency_key(key: str) -> str:
    """A UUID v4 as far as anybody can see; the same key always gives the same one."""
    return str(uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16], version=4))


def _signing_key(secret: Secret) -> SigningKey:
    """Raises Rejected `provider_key_invalid`."""
    octets = secret.reveal()
    try:
        if octets.startswith(b"-----BEGIN"):
            return from_pem(cose.ES256, octets.replace(b"\\n", b"\n"))
        pair = base64.b64decode(octets, validate=True)  # seed and public key
    except (Rejected, binascii.Error):
        raise Rejected("provider_key_invalid", _KEY_INVALID) from None
    if len(pair) != _PAIR_BYTES:
        raise Rejected("provider_key_invalid", _KEY_INVALID)
    return ed25519_from_seed(pair[:32])
