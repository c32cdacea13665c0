"""PayPal's webhooks: who sent them, when, and what they speak of. Believes nothing else of them.

The signature covers the transmission's id and time, our webhook's id and a CRC32 of the body. A CRC is no hash: whoever
has recorded one delivery can make another body with the same CRC. So the body is a hint at most, and nothing follows
from it but that somebody reads sooner.

Rules:
- The signature is checked over the bytes as they came, before anything of them is parsed.
- The certificate comes from one pinned host; its chain ends at a root of the settings, and its name is PayPal's.
- The door never waits for a certificate: a delivery whose certificate is not here yet is refused with "later", and the
  certificate is fetched meanwhile. PayPal sends again, 25 times in three days.

Source: developer.paypal.com/api/rest/webhooks/rest ("Integrate webhooks": verifying messages, 25 times over 3 days).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
import re
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import aiohttp
import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import verification
from msgspec import Meta

from appliance.adapters.provider_http import time_ms
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId, ProviderReference
from appliance.model.limits import DAY_MS
from appliance.ports.clock import Clock
from appliance.ports.hint import Hint
from appliance.runtime.log import Log

TOLERANCE_MS: Final = 3 * DAY_MS
"""As long as PayPal tries again."""
CERTIFICATES_MAX: Final = 8
CERTIFICATE_BYTES_MAX: Final = 64 << 10
FETCH_S_MAX: Final = 10.0
_PATH: Final = re.compile(r"\A/v1/notifications/certs/[0-9A-Za-z-]{1,128}\Z")
_REFERENCE: Final = re.compile(r"\A[0-9A-Z]{1,36}\Z")
_SIGNATURE_CHARACTERS_MAX: Final = 1_024
_PAID: Final = "PAYMENT.CAPTURE.COMPLETED"


class _Related(msgspec.Struct, frozen=True, kw_only=True):
    order_id: str = ""


class _Supplement(msgspec.Struct, frozen=True, kw_only=True):
    related_ids: _Related = _Related()


class _Unit(msgspec.Struct, frozen=True, kw_only=True):
    custom_id: str = ""


class _Resource(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""
    custom_id: str = ""
    supplementary_data: _Supplement = _Supplement()
    purchase_units: tuple[_Unit, ...] = ()


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z-]{1,120}\Z")]
    event_type: Annotated[str, Meta(max_length=128)]
    resource: _Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trusted:
    key: rsa.RSAPublicKey
    ends_ms: int


class PayPalCertificates:
    """Keys of PayPal's signing certificates, by their address; one service fetches what is missing.

    Args:
        base: the pinned address before the path, such as https://api.paypal.com.
        name: whom the certificate must be made out to.
        roots: whom a chain must end at.
    """

    def __init__(
        self,
        *,
        base: str,
        name: str,
        roots: Sequence[x509.Certificate],
        proxy: str | None = None,
        clock: Clock,
        log: Log,
    ) -> None:
        self._base = base
        self._proxy = proxy
        self._name = name
        self._store = verification.Store(list(roots))
        self._clock = clock
        self._log = log
        self._trusted: OrderedDict[str, _Trusted] = OrderedDict()
        self._missing: asyncio.Queue[str] = asyncio.Queue(CERTIFICATES_MAX)
        self._asked: set[str] = set()

    def key(self, address: str) -> rsa.RSAPublicKey:
        """The key at `address`.

        Raises:
            Rejected: `webhook_forged`: it is no address of PayPal's certificates.
            Unavailable: `webhook_certificate_missing`: it is being fetched; the delivery may come again.
        """
        if not address.startswith(self._base) or not _PATH.match(address.removeprefix(self._base)):
            raise Rejected("webhook_forged", "the webhook names a certificate that is not at PayPal's address")
        found = self._trusted.get(address)
        if found is not None and self._clock.now_ms() < found.ends_ms:
            return found.key
        if address not in self._asked and not self._missing.full():
            self._asked.add(address)
            self._missing.put_nowait(address)
        raise Unavailable("webhook_certificate_missing", "the certificate is being fetched; send it again later")

    async def run(self) -> None:
        """Fetch what is missing, for ever."""
        timeout = aiohttp.ClientTimeout(total=FETCH_S_MAX)
        session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), proxy=self._proxy)
        async with session as http:
            while True:
                await self.fetch_next(http)

    async def fetch_next(self, http: aiohttp.ClientSession) -> None:
        """Fetch the next missing certificate; one that is not to be trusted is asked for again by the next delivery."""
        address = await self._missing.get()
        try:
            async with http.get(address, allow_redirects=False) as answer:
                pem = bytearray()
                async for chunk in answer.content.iter_any():
                    pem += chunk
                    if len(pem) > CERTIFICATE_BYTES_MAX:
                        raise ValueError(f"expected at most {CERTIFICATE_BYTES_MAX} bytes of certificates")
            self._trust(address, x509.load_pem_x509_certificates(bytes(pem)))
        except (aiohttp.ClientError, TimeoutError, ValueError, verification.VerificationError) as cause:
            self._log.warning("webhook.certificate_refused", error=cause)
        finally:
            self._asked.discard(address)

    def _trust(self, address: str, chain: Sequence[x509.Certificate]) -> None:
        now = datetime.datetime.fromtimestamp(self._clock.now_ms() / 1000, datetime.UTC)
        verifier = (
            verification.PolicyBuilder().store(self._store).time(now).build_server_verifier(x509.DNSName(self._name))
        )
        leaf = verifier.verify(chain[0], list(chain[1:]))[0]
        key = leaf.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("expected an RSA key")
        self._trusted[address] = _Trusted(key=key, ends_ms=int(leaf.not_valid_after_utc.timestamp() * 1000))
        if len(self._trusted) > CERTIFICATES_MAX:
            self._trusted.popitem(last=False)


class PayPalWebhooks:
    """Satisfies `ports/hint.py` for one listener of PayPal's."""

    def __init__(self, *, webhook_id: str, certificates: PayPalCertificates, clock: Clock) -> None:
        self._webhook_id = webhook_id
        self._certificates = certificates
        self._clock = clock

    def read(self, body: bytes, headers: Mapping[str, str]) -> Hint:
        transmission, sent = headers.get("paypal-transmission-id", ""), headers.get("paypal-transmission-time", "")
        key = self._certificates.key(headers.get("paypal-cert-url", ""))
        told = f"{transmission}|{sent}|{self._webhook_id}|{zlib.crc32(body)}"
        signed = told.encode("utf-8", "surrogateescape")  # as the headers came, whatever bytes they are
        try:
            given = headers.get("paypal-transmission-sig", "")[:_SIGNATURE_CHARACTERS_MAX]
            key.verify(base64.b64decode(given, validate=True), signed, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            raise Rejected("webhook_forged", "the webhook's signature is not by PayPal's certificate") from None
        sent_ms = time_ms(sent)
        if sent_ms is None or abs(self._clock.now_ms() - sent_ms) > TOLERANCE_MS:
            raise Rejected("webhook_late", "expected a webhook sent within three days of the box's clock")
        try:
            event = msgspec.json.decode(body, type=_Event)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Rejected("webhook_malformed", "the webhook is genuine, and not an event that we can read") from None
        return _hint(event)


def _hint(event: _Event) -> Hint:
    about = event.resource
    custom_id = about.custom_id or next((unit.custom_id for unit in about.purchase_units), "")
    log_origin, _, operation = custom_id.partition(" ")
    name = about.supplementary_data.related_ids.order_id or about.id
    return Hint(
        event=event.id,
        reference=ProviderReference(name) if _REFERENCE.match(name) else None,
        log_origin=log_origin,
        operation=OperationId(operation) if operation else None,
        says_paid=event.event_type == _PAID,
    )
