"""Follows a TPM's endorsement certificate to the root of its maker. Owns that walk; must never fetch a certificate."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.model.errors import Rejected

_LINKS_MAX: Final = 6


def read_makers(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Roots and intermediates that somebody trusts. Raises Rejected `maker_certificates_malformed`."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as cause:
        raise Rejected("maker_certificates_malformed", "expected certificates in PEM") from cause


def follow_to_maker(endorsement: bytes, makers: Sequence[x509.Certificate], now: datetime.datetime) -> x509.Certificate:
    """The root that the endorsement certificate (DER) leads to by `makers` alone.

    Raises:
        Rejected: `endorsement_certificate_malformed`; `maker_unknown`: a link is missing, not a CA's, or out of date.
    """
    try:
        link = x509.load_der_x509_certificate(endorsement)
    except ValueError as cause:
        raise Rejected("endorsement_certificate_malformed", "expected a certificate in DER") from cause
    for _ in range(_LINKS_MAX):
        issuer = next((each for each in makers if _issued(each, link, now)), None)
        if issuer is None:
            break
        if issuer.issuer == issuer.subject:
            return issuer
        link = issuer
    raise Rejected("maker_unknown", f"no root of a TPM's maker was given for {link.issuer.rfc4514_string() or 'it'}")


def root_sha256(root: x509.Certificate) -> bytes:
    """How a statement names a maker's root."""
    return hashlib.sha256(root.public_bytes(Encoding.DER)).digest()


def _issued(issuer: x509.Certificate, subject: x509.Certificate, now: datetime.datetime) -> bool:
    """RFC 5280, 6.1, as far as makers of TPMs use it: names, signature, time, and that the issuer may issue."""
    try:
        subject.verify_directly_issued_by(issuer)
        is_authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return is_authority and issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc
