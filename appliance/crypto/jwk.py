"""Other spellings of a public key: PEM and JWK (RFC 7517), and the JWK thumbprint (RFC 7638).

Inside, a public key is always its SubjectPublicKeyInfo in DER and its name the SHA-256 of that.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from appliance.crypto.jws import from_base64url, to_base64url
from appliance.model.errors import Rejected

_P256_COORDINATE_SIZE: Final = 32


def to_pem(public_key: bytes) -> str:
    """PEM of a SubjectPublicKeyInfo."""
    return (
        _load(public_key)
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def from_pem(pem: bytes) -> bytes:
    """SubjectPublicKeyInfo of a PEM public key; Rejected `public_key_malformed`."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise Rejected("public_key_malformed", "expected a public key in PEM") from cause
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def to_jwk(public_key: bytes) -> dict[str, str]:
    """The required members of the JWK, in the order of RFC 7638; P-256, P-384 and Ed25519 only."""
    key = _load(public_key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        numbers, size = key.public_numbers(), key.key_size // 8
        return {
            "crv": f"P-{key.key_size}",
            "kty": "EC",
            "x": to_base64url(numbers.x.to_bytes(size, "big")).decode(),
            "y": to_base64url(numbers.y.to_bytes(size, "big")).decode(),
        }
    if isinstance(key, ed25519.Ed25519PublicKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": to_base64url(key.public_bytes_raw()).decode()}
    raise Rejected("public_key_unsupported", f"{type(key).__name__} has no JWK here")


def p256_from_jwk(jwk: dict[str, str]) -> bytes:
    """SubjectPublicKeyInfo of a P-256 JWK, as a browser exports it; members beyond kty, crv, x, y are not read.

    Raises:
        Rejected: `public_key_malformed`, also for a point that is not on the curve or a JWK with a private part.
    """
    if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        raise Rejected("public_key_malformed", "expected a JWK with kty EC and crv P-256")
    if "d" in jwk:
        raise Rejected("public_key_malformed", "expected a public key, saw a private member")
    coordinates = [from_base64url(jwk.get(name, "").encode()) for name in ("x", "y")]
    if any(len(coordinate) != _P256_COORDINATE_SIZE for coordinate in coordinates):
        raise Rejected("public_key_malformed", f"expected coordinates of {_P256_COORDINATE_SIZE} bytes")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + b"".join(coordinates))
    except ValueError as cause:
        raise Rejected("public_key_malformed", "the point is not on the curve") from cause
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def thumbprint(public_key: bytes) -> bytes:
    """RFC 7638 SHA-256 thumbprint; our own key id is another hash (`signature.key_id`)."""
    return hashlib.sha256(json.dumps(to_jwk(public_key), separators=(",", ":"), sort_keys=True).encode()).digest()


def _load(public_key: bytes) -> PublicKeyTypes:
    try:
        return serialization.load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise Rejected("public_key_malformed", "expected a SubjectPublicKeyInfo in DER") from cause
