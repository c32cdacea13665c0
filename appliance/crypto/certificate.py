"""X.509 for the terminals' door: the box's own authority and the server certificate below it.

Owns the two profiles. Never holds the authority's private key: it may live in a token that signs asynchronously, so
what is to be signed is asked of the builder first, signed elsewhere, and put in at a second pass.

Source: RFC 5280; a till checks the chain against the one authority that it got at pairing.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from typing import Final, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typing_extensions import Buffer

from appliance.model.errors import Corrupt
from appliance.ports.signer import Signer

SERVER_DAYS: Final = 7
AUTHORITY_DAYS: Final = 3_650
IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
LOOPBACK: Final = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_BACKDATED: Final = datetime.timedelta(hours=1)  # a till's clock may be behind ours
_PLACEHOLDER: Final = encode_dss_signature(1, 1)
_ELSEWHERE: Final = "the key is elsewhere: a certificate is all that it signs here"


def authority_builder(shop: str, key: ec.EllipticCurvePublicKey, now: datetime.datetime) -> x509.CertificateBuilder:
    """The authority of one box: signs server certificates for its door and nothing else."""
    name = f"{shop} authority"
    return (
        _builder(name, _name(name), key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def server_builder(
    authority: x509.Certificate,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    *,
    names: Iterable[str],
    addresses: Iterable[IpAddress],
) -> x509.CertificateBuilder:
    """The certificate of the door; names and addresses are for browsers, a till goes by the authority alone."""
    alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
    issuer_key = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder("localhost", authority.subject, key, now, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(key_usage(is_authority=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
            critical=False,
        )
    )


async def signed_by(signer: Signer, builder: x509.CertificateBuilder) -> x509.Certificate:
    """The certificate, signed by an ECDSA key wherever it lives. Raises what `signer` raises."""
    public_key = elliptic(signer.public_key)
    template = _Template(public_key, _PLACEHOLDER)
    hash_algorithm = hashes.SHA384() if public_key.key_size == 384 else hashes.SHA256()
    builder.sign(template, hash_algorithm)
    raw = await signer.sign(template.asked)
    half = len(raw) // 2
    signature = encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
    made = builder.sign(_Template(public_key, signature), hash_algorithm)
    public_key.verify(made.signature, made.tbs_certificate_bytes, ec.ECDSA(hash_algorithm))
    return made


def elliptic(public_key: bytes) -> ec.EllipticCurvePublicKey:
    """A SubjectPublicKeyInfo as the key of an authority. Raises Corrupt `authority_key_foreign`."""
    key = serialization.load_der_public_key(public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Corrupt("authority_key_foreign", "expected an ECDSA key for the door's authority")
    return key


class _Template(ec.EllipticCurvePrivateKey):
    """Stands for a key that is elsewhere: keeps what was to be signed, answers with the signature it was given."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, signature: bytes) -> None:
        self._public_key = public_key
        self._signature = signature
        self.asked = b""

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # noqa: ARG002 - the hash goes with the key
        self.asked = bytes(data)
        return self._signature

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise NotImplementedError(_ELSEWHERE)

    def private_numbers(self) -> NoReturn:
        raise NotImplementedError(_ELSEWHERE)

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> NoReturn:
        raise NotImplementedError(_ELSEWHERE)

    def __copy__(self) -> _Template:
        return self

    def __deepcopy__(self, memo: object) -> _Template:
        return self


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
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
