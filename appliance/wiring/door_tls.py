"""The TLS of the terminals' door: by files that somebody else renews, or by an authority in the box's own token."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.adapters.dns_sd import own_addresses
from appliance.adapters.hsm_signer import COSE_OF, HsmSigner, PinnedHsmKey
from appliance.config.pos_door import Authority
from appliance.config.schema import Settings
from appliance.crypto.certificate import authority_builder, elliptic
from appliance.crypto.tls_groups import require_hybrid
from appliance.device.door_certificate import DoorCertificate, load_in_memory
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.trust import Trust
from drivers.hsm.signing import algorithm_of


class DoorTls:
    """What the door shows, and what a terminal learns of it when it pairs. Files are read once, at the start."""

    def __init__(self, *, settings: Settings, trust: Trust, clock: Clock, log: Log) -> None:
        self.context = tls_context(settings)
        chain = [] if settings.pos.tls_certificate_path is None else _chain(settings.pos.tls_certificate_path)
        self._sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain[0])).digest() if chain else b""
        self._authority = chain[-1] if len(chain) > 1 else ""
        authority = settings.pos.authority
        self._made: DoorCertificate | None = None
        if authority is not None:
            self._made = DoorCertificate(
                context=self.context,
                signer=_signer(settings, trust, authority),
                authority_file=authority.certificate_path,
                shop=settings.shop.name,
                addresses=own_addresses,
                clock=clock,
                log=log,
            )

    async def begin(self, supervisor: Supervisor) -> None:
        """Before the door opens. Raises Unavailable, Corrupt: the token has no such key or does not sign."""
        if self._made is not None:
            await self._made.renew()
            supervisor.start("door certificate", self._made.run, restart=Restart.ON_CRASH)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the door's certificate, DER: what a QR code and a pairing proof name."""
        return self._sha256 if self._made is None else self._made.sha256

    @property
    def authority(self) -> str:
        """The authority's certificate, PEM; empty when the chain in the file is the door's certificate alone."""
        return self._authority if self._made is None else self._made.authority


def tls_context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.3 only, and where the settings require it hybrid groups only. Raises what `require_hybrid` raises."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    pos = settings.pos
    if pos.tls_certificate_path is not None:
        context.load_cert_chain(pos.tls_certificate_path, pos.tls_key_path)
    else:
        _load_stand_in(context)
    if pos.is_post_quantum_required:
        require_hybrid(context)
    return context


def _load_stand_in(context: ssl.SSLContext) -> None:
    """A certificate that nobody believes, so that handshakes can be tried before the token is asked for a true one."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = authority_builder("stand-in", key.public_key(), now).sign(key, hashes.SHA256())
    load_in_memory(context, certificate.public_bytes(serialization.Encoding.PEM), key)


def _signer(settings: Settings, trust: Trust, authority: Authority) -> HsmSigner:
    public_key = bytes.fromhex(authority.public_key)
    algorithm = COSE_OF[algorithm_of(elliptic(public_key))]
    key = PinnedHsmKey(token_key_id=bytes.fromhex(authority.id), algorithm=algorithm, public_key=public_key)
    return HsmSigner(link=trust.link, key=key, deadline_ms=settings.hsm.deadline_ms)


def _chain(certificate_path: Path) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [part.lstrip() + end for part in certificate_path.read_text().split(end)[:-1]]
