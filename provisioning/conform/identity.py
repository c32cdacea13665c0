"""The scripted box's own keys: an owner, a log, a TLS authority. Made anew for each run, worth nothing afterwards."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.crypto import cose, signing_key
from appliance.crypto.certificate import key_usage
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerKey
from appliance.crypto.signing_key import SigningKey
from appliance.ledger.genesis import STATEMENT_KIND, GenesisStatement, SignedGenesis
from appliance.ledger.trust import encode_trust
from provisioning.terminal.durable import write_durably

_VALID_DAYS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """What a log signs with, and the owner's word for it."""

    classical: SigningKey = field(repr=False)
    post_quantum: SigningKey = field(repr=False)
    genesis: SignedGenesis


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxIdentity:
    """Everything that a client is told to trust, and a forger's keys that it is not.

    Attributes:
        forger: keys of a log of the same name that the owner never vouched for.
    """

    audience: str
    log: LogKeys
    forger: LogKeys
    trust: bytes
    authority_pem: bytes
    certificate_pem: bytes
    certificate_der: bytes
    certificate_key_pem: bytes = field(repr=False)

    def write_tls(self, folder: Path) -> tuple[Path, Path]:
        """Certificate and key as files, for the server's TLS context."""
        certificate, key = folder / "tls.pem", folder / "tls.key"
        write_durably(certificate, self.certificate_pem)
        write_durably(key, self.certificate_key_pem)
        return certificate, key


def make_identity(now_ms: int) -> BoxIdentity:
    """Keys for one run; takes a second or two, mostly the owner's hash-based signatures."""
    audience = "conform.test/scripted-box/1"
    owner = OwnerKey.generate()
    log = _log_keys(owner, audience, now_ms)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(now_ms, authority_key, authority_key, is_authority=True)
    certificate = _certificate(now_ms, authority_key, key, is_authority=False)
    return BoxIdentity(
        audience=audience,
        log=log,
        forger=_log_keys(OwnerKey.generate(), audience, now_ms),
        trust=encode_trust(owner.public, [log.genesis]),
        authority_pem=authority.public_bytes(serialization.Encoding.PEM),
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        certificate_der=certificate.public_bytes(serialization.Encoding.DER),
        certificate_key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _log_keys(owner: OwnerKey, origin: str, now_ms: int) -> LogKeys:
    classical, post_quantum = signing_key.generate(cose.ED25519), signing_key.generate(cose.ML_DSA_87)
    keys = HybridPublic(
        classical=PinnedKey(algorithm=classical.algorithm, public_key=classical.public_key),
        post_quantum=PinnedKey(algorithm=post_quantum.algorithm, public_key=post_quantum.public_key),
    )
    note_key = signing_key.generate(cose.ED25519).public_key
    statement = GenesisStatement(origin=origin, created_ms=now_ms, keys=keys, note_key=note_key).encode()
    signature = owner.sign_statement(STATEMENT_KIND, statement).encode()
    genesis = SignedGenesis(statement=statement, owner_signature=signature)
    return LogKeys(classical=classical, post_quantum=post_quantum, genesis=genesis)


def _certificate(
    now_ms: int, issuer: ec.EllipticCurvePrivateKey, subject: ec.EllipticCurvePrivateKey, *, is_authority: bool
) -> x509.Certificate:
    """An authority, or a server certificate under it; whole enough for the strict checks of Python 3.13."""
    issuer_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "conform authority")])
    name = issuer_name if is_authority else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted box")])
    now = datetime.datetime.fromtimestamp(now_ms / 1_000, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(subject.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=_VALID_DAYS))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(key_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if not is_authority:
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([loopback, x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(issuer, hashes.SHA256())
