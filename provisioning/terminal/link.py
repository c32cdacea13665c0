"""One exchange with the box over TLS 1.3: send these bytes, read that answer.

Owns sockets, certificates and the difference between "never left" and "no answer". Must never repeat an exchange: what
to do after a loss is `client.py`'s business.

Source: docs/formats/terminal-protocol.md sections 1 and 5.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from cryptography import x509

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.runtime.deadline import Deadline
from provisioning.terminal.signing import ANSWER_BYTES_MAX, Encoding

_HTTPS_PORT: Final = 443
_SECOND_MS: Final = 1_000
_RETRY_AFTER_SECONDS_MAX: Final = 3_600
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of x509_vfy.h; `ssl` has no name for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as it came; `retry_after_ms` is there when the box named a wait."""

    status: int
    content_type: str
    body: bytes
    retry_after_ms: int | None


class Link:
    """Connections to one box; use as an async context manager."""

    def __init__(self, *, url: str, ca_file: str | None = None, certificate_sha256: str | None = None) -> None:
        """Trust the authority in `ca_file`, or only the certificate with this fingerprint. One of the two is needed."""
        if (ca_file is None) == (certificate_sha256 is None):
            raise Rejected("trust_unclear", "expected either a CA file or a certificate's SHA-256")
        self._url = url.rstrip("/")
        self._context = tls_context(ca_file)
        self._pin = None if certificate_sha256 is None else aiohttp.Fingerprint(bytes.fromhex(certificate_sha256))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A pin replaces the chain and the host name; the fingerprint is compared on every new connection.
        connector = aiohttp.TCPConnector(ssl=self._pin or self._context)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),  # time belongs to the caller's deadline
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: bytes, encoding: Encoding, deadline: Deadline) -> Reply:
        """Send `body` and read the whole answer.

        Raises:
            Unavailable: `box_unreachable`: no connection, so nothing was sent.
            OutcomeUnknown: `answer_lost`: it may have arrived, and no whole answer came back.
            Rejected: `certificate_wrong`: the other end is not the box that was paired with.
        """
        headers = {"Content-Type": encoding.value, "Accept": _ACCEPT[encoding]}
        return await self._exchange("POST", path, headers, body, deadline)

    async def get(self, path: str, deadline: Deadline) -> Reply:
        """Read `path`; raises like `post`."""
        return await self._exchange("GET", path, {"Accept": "application/json"}, None, deadline)

    @asynccontextmanager
    async def stream(self, path: str, authorization: str, deadline: Deadline) -> AsyncIterator[aiohttp.ClientResponse]:
        """An open event stream; `deadline` bounds its beginning only.

        Raises:
            Unavailable: `box_unreachable`: there is no stream now.
        """
        headers = {"Authorization": authorization, "Accept": "text/event-stream"}
        try:
            async with deadline.scope():
                response = await self._open.get(self._url + path, headers=headers, ssl=self._context)
        except (aiohttp.ClientError, TimeoutError) as cause:
            raise Unavailable("box_unreachable", f"no event stream from {self._url}") from cause
        try:
            yield response
        finally:
            response.close()

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Rejected("link_closed", "use the link inside `async with`")
        return self._session

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, deadline: Deadline
    ) -> Reply:
        try:
            async with (
                deadline.scope(),
                self._open.request(
                    method, self._url + path, data=body, headers=headers, ssl=self._context, allow_redirects=False
                ) as response,
            ):
                return await read_reply(response)
        except aiohttp.ServerFingerprintMismatch as cause:
            raise Rejected("certificate_wrong", "the box's TLS certificate is not the one pinned at pairing") from cause
        except aiohttp.ClientConnectorCertificateError as cause:
            raise Rejected("certificate_wrong", f"the box's TLS certificate is not trusted: {cause}") from cause
        except aiohttp.ClientConnectorError as cause:
            raise Unavailable("box_unreachable", f"no connection to {self._url}") from cause
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            raise OutcomeUnknown("answer_lost", f"{method} {path}: {type(cause).__name__}") from cause


_ACCEPT: Final = {Encoding.COSE: "application/cbor", Encoding.JWS: "application/json"}


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.3 and nothing older; without `ca_file` the certificate must be checked by its fingerprint.

    The authority in `ca_file` is one box's own and signs its door alone, so its key is the box's identity: neither the
    name or address under which the box is found counts, nor a date. A box that was off for a month with a flat clock,
    or a till that does not know the year, sells all the same; what a sale says stands in signatures.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    if ca_file is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.verify_flags |= _NO_CHECK_TIME
    return context


def read_authority(pem: bytes) -> bytes:
    """`pem`, when it is the certificate of an authority. Raises Rejected `authority_malformed`."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem)
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound) as cause:
        raise Rejected("authority_malformed", "expected one certificate of an authority, in PEM") from cause
    if not is_authority:
        raise Rejected("authority_malformed", "expected the certificate of an authority, saw that of a door")
    return pem


async def read_reply(response: aiohttp.ClientResponse) -> Reply:
    """The whole answer. Raises OutcomeUnknown `answer_unreadable` when it is larger than any answer."""
    body = await response.content.read(ANSWER_BYTES_MAX + 1)
    while not response.content.at_eof() and len(body) <= ANSWER_BYTES_MAX:
        body += await response.content.read(ANSWER_BYTES_MAX + 1 - len(body))
    if len(body) > ANSWER_BYTES_MAX:
        raise OutcomeUnknown("answer_unreadable", f"expected at most {ANSWER_BYTES_MAX} bytes")
    return Reply(
        status=response.status,
        content_type=response.content_type,
        body=body,
        retry_after_ms=_retry_after_ms(response.headers.get("Retry-After")),
    )


def _retry_after_ms(header: str | None) -> int | None:
    """Whole seconds (RFC 9110 section 10.2.3); the date form needs a clock that may be wrong and is passed over."""
    if header is None or not header.isascii() or not header.isdigit():
        return None
    return min(int(header), _RETRY_AFTER_SECONDS_MAX) * _SECOND_MS


async def peer_certificate_sha256(url: str, deadline: Deadline) -> str:
    """SHA-256 (hex) of the certificate that `url` shows now; nothing is known about it yet.

    Raises:
        Unavailable: `box_unreachable`.
    """
    parts = urlsplit(url)
    try:
        async with deadline.scope():
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or _HTTPS_PORT, ssl=tls_context(None))
    except (OSError, TimeoutError) as cause:
        raise Unavailable("box_unreachable", f"no connection to {url}") from cause
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if certificate is None:
        raise Unavailable("box_unreachable", f"{url} shows no certificate")
    return hashlib.sha256(certificate).hexdigest()
