"""The box's certificate authority and the server certificate of its door.

Owns both pairs of files. Must never keep a key readable by others, and never issues anything but a server certificate.
The certificate lives for seven days and is renewed at every start: what is renewed daily is never forgotten.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.terminal.durable import write_durably

SERVER_DAYS: Final = 7
_AUTHORITY_DAYS: Final = 3650
_BACKDATED: Final = datetime.timedelta(hours=1)  # a till's clock may be behind ours


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorFiles:
    """Where the door's TLS material lies."""

    authority: Path
    certificate: Path
    key: Path


def issue(folder: Path, *, now: datetime.datetime, shop: str, host: str | None = None) -> DoorFiles:
    """Make the authority of `folder` when it has none, and a fresh server certificate for this machine.

    Args:
        host: a name or address by which other machines reach it: they take no certificate for another.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = DoorFiles(
        authority=folder / "authority.pem", certificate=folder / "pos-certificate.pem", key=folder / "pos-key.pem"
    )
    authority_key, authority = _authority(folder, now, shop)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        *([] if host is None else [_name(host)]),
    ]
    certificate = (
        _builder("localhost", authority.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(key_usage(is_authority=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    # Key before certificate: a certificate without its key would keep the door shut, an unused key does nothing.
    write_durably(files.key, _pem(key))
    pem = serialization.Encoding.PEM
    write_durably(files.certificate, certificate.public_bytes(pem) + authority.public_bytes(pem))
    return files


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _authority(folder: Path, now: datetime.datetime, shop: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, path = folder / "authority-key.pem", folder / "authority.pem"
    if key_path.exists() and path.exists():
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if isinstance(loaded, ec.EllipticCurvePrivateKey):
            return loaded, x509.load_pem_x509_certificate(path.read_bytes())
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{shop} authority")])
    certificate = (
        _builder(f"{shop} authority", name, key.public_key(), now, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    write_durably(key_path, _pem(key))
    write_durably(path, certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


def _builder(
    subject: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def key_usage(*, is_authority: bool) -> x509.KeyUsage:
    """An authority signs certificates and nothing else; a server only signs."""
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
