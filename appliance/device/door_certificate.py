"""The certificate of the terminals' door, made by the box at each start and daily, from the authority in its token.

- The door's private key is drawn anew each time and lies in memory alone.
- Nothing here asks anybody outside: a box that was off for weeks without a network opens its door all the same. What
  tills and the box agree on is the authority's key, never a date.
- The authority's own certificate is renewed a year before its end, under the same name and key: a till that holds the
  old one believes what the new one signs.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.crypto.certificate import LOOPBACK, IpAddress, authority_builder, elliptic, server_builder, signed_by
from appliance.ledger.recover import write_durably
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.ports.clock import Clock
from appliance.ports.signer import Signer
from appliance.runtime.log import Log

RENEW_MS: Final = DAY_MS
_AUTHORITY_LEFT_MIN: Final = datetime.timedelta(days=365)
_PEM: Final = serialization.Encoding.PEM


class DoorCertificate:
    """What the door shows.

    Args:
        authority_file: where tools find the authority's certificate; made when it is not there.
        shop: in the authority's name.
        addresses: of this machine, for browsers: a till checks no name and no address. May block.
    """

    def __init__(
        self,
        *,
        context: ssl.SSLContext,
        signer: Signer,
        authority_file: Path,
        shop: str,
        addresses: Callable[[], Iterable[IpAddress]],
        clock: Clock,
        log: Log,
    ) -> None:
        self._context = context
        self._signer = signer
        self._authority_file = authority_file
        self._shop = shop
        self._addresses = addresses
        self._clock = clock
        self._log = log
        self._sha256 = b""
        self._authority = ""
        self._made_ms = 0

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the certificate shown now, DER."""
        return self._sha256

    @property
    def authority(self) -> str:
        """The authority's certificate, PEM."""
        return self._authority

    async def renew(self) -> None:
        """Show a new certificate from the next handshake on.

        Raises:
            Unavailable, OutcomeUnknown: the token does not sign; the door shows what it showed.
        """
        now = self._now()
        authority = await self._current_authority(now)
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = sorted({*LOOPBACK, *await asyncio.to_thread(self._addresses)}, key=str)
        builder = server_builder(authority, key.public_key(), now, names=("localhost",), addresses=addresses)
        certificate = await signed_by(self._signer, builder)
        chain = certificate.public_bytes(_PEM) + authority.public_bytes(_PEM)
        await asyncio.to_thread(load_in_memory, self._context, chain, key)
        self._sha256 = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
        self._authority = authority.public_bytes(_PEM).decode()
        self._made_ms = self._clock.monotonic_ms()
        self._log.info("certificate.renewed", until=f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%MZ}")

    async def run(self) -> None:
        """A service: a new one each day; while the token is away the old one is shown, expired or not."""
        while True:
            await self._clock.sleep(HOUR_MS)
            if self._clock.monotonic_ms() - self._made_ms < RENEW_MS:
                continue
            try:
                await self.renew()
            except (Unavailable, OutcomeUnknown) as trouble:
                self._log.warning("certificate.postponed", code=trouble.code)

    async def _current_authority(self, now: datetime.datetime) -> x509.Certificate:
        kept = await asyncio.to_thread(_read_authority, self._authority_file, self._signer.public_key)
        if kept is not None and now + _AUTHORITY_LEFT_MIN < kept.not_valid_after_utc:
            return kept
        made = await signed_by(self._signer, authority_builder(self._shop, elliptic(self._signer.public_key), now))
        await asyncio.to_thread(write_durably, self._authority_file, made.public_bytes(_PEM))
        return made

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.now_ms() / 1_000, datetime.UTC)


def _read_authority(file: Path, public_key: bytes) -> x509.Certificate | None:
    if not file.exists():
        return None
    kept = x509.load_pem_x509_certificate(file.read_bytes())
    spki = kept.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return kept if spki == public_key else None  # of a token that was lost: the settings name the key, not this file


def load_in_memory(context: ssl.SSLContext, chain: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    """Show `chain` (PEM, leaf first). `ssl` reads files only: this one is in memory and has no name in any folder."""
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.memfd_create("door", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, private + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
