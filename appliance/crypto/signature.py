"""Verification of one signature by one pinned public key.

Owns the table of algorithms: number, name, key class, exact signature size, the one key type that fits. Must never let
the message choose the algorithm: the caller passes the one of the pinned key, and a key of another type is refused.

Signatures are in COSE form: raw r || s for ECDSA (RFC 9053 section 2.1), not DER. ECDSA accepts both s and n - s, so a
signature is never an identity: idempotency and hashes go by the signed bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pqcrypto.sign import slh_dsa_sha2_256s

from appliance.crypto import cose
from appliance.model.errors import Rejected

KeyClass: TypeAlias = Literal["classical", "post_quantum"]

# draft-ietf-cose-sphincs-plus numbers no SHA2-256s set, so this one is ours (private use: below -65536). It appears in
# owner statements only, never in COSE that another program reads.
SLH_DSA_SHA2_256S: Final = -70001

# SubjectPublicKeyInfo of SLH-DSA-SHA2-256s before its 64 key bytes (RFC 9909, OID 2.16.840.1.101.3.4.3.24).
_SLH_DSA_SPKI_PREFIX: Final = bytes.fromhex("3050300b06096086480165030403180341 00")
_SLH_DSA_PUBLIC_KEY_SIZE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """A row of the table.

    Attributes:
        number: COSE algorithm id.
        key_type: what `public_key` must be; two algorithms of one key type differ in name only.
        signature_size: exact, in bytes.
    """

    number: int
    name: str
    key_class: KeyClass
    key_type: str
    signature_size: int


ALGORITHMS: Final = {
    row.number: row
    for row in (
        Algorithm(number=cose.ESP256, name="ESP256", key_class="classical", key_type="P-256", signature_size=64),
        Algorithm(number=cose.ES256, name="ES256", key_class="classical", key_type="P-256", signature_size=64),
        Algorithm(number=cose.ESP384, name="ESP384", key_class="classical", key_type="P-384", signature_size=96),
        Algorithm(number=cose.ES384, name="ES384", key_class="classical", key_type="P-384", signature_size=96),
        Algorithm(number=cose.ED25519, name="Ed25519", key_class="classical", key_type="Ed25519", signature_size=64),
        Algorithm(number=cose.EDDSA, name="EdDSA", key_class="classical", key_type="Ed25519", signature_size=64),
        Algorithm(
            number=cose.ML_DSA_44,
            name="ML-DSA-44",
            key_class="post_quantum",
            key_type="ML-DSA-44",
            signature_size=2420,
        ),
        Algorithm(
            number=cose.ML_DSA_65,
            name="ML-DSA-65",
            key_class="post_quantum",
            key_type="ML-DSA-65",
            signature_size=3309,
        ),
        Algorithm(
            number=cose.ML_DSA_87,
            name="ML-DSA-87",
            key_class="post_quantum",
            key_type="ML-DSA-87",
            signature_size=4627,
        ),
        Algorithm(
            number=SLH_DSA_SHA2_256S,
            name="SLH-DSA-SHA2-256s",
            key_class="post_quantum",
            key_type="SLH-DSA-SHA2-256s",
            signature_size=29792,
        ),
    )
}

# Raises InvalidSignature for a wrong signature.
_Check: TypeAlias = Callable[[bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class _LoadedKey:
    key_type: str
    check: _Check


def algorithm(number: int) -> Algorithm:
    """The row of COSE algorithm `number`; Rejected `algorithm_unsupported` when it is not in the table."""
    try:
        return ALGORITHMS[number]
    except KeyError:
        raise Rejected("algorithm_unsupported", f"COSE algorithm {number} is not on the approved list") from None


def key_id(public_key: bytes) -> bytes:
    """The name of a key everywhere: SHA-256 of its SubjectPublicKeyInfo, 32 bytes."""
    return hashlib.sha256(public_key).digest()


def key_type(public_key: bytes) -> str:
    """The key type of a SubjectPublicKeyInfo, as named in the table.

    Raises:
        Rejected: `public_key_malformed`, `public_key_not_canonical`, `public_key_unsupported`.
    """
    return _load(public_key).key_type


def verify(number: int, public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` of algorithm `number` over `message` is by the owner of `public_key`.

    Args:
        number: the algorithm of the pinned key, or one proven equal to it; never taken from the message alone.
        public_key: SubjectPublicKeyInfo, DER.
    Raises:
        Rejected: `algorithm_unsupported`, `algorithm_key_mismatch`, or a key that `key_type` refuses.
    """
    row = algorithm(number)
    loaded = _load(public_key)
    if loaded.key_type != row.key_type:
        raise Rejected("algorithm_key_mismatch", f"expected a {row.key_type} key for {row.name}, saw {loaded.key_type}")
    if len(signature) != row.signature_size:
        return False
    try:
        loaded.check(signature, message)
    except InvalidSignature:
        return False
    return True


def slh_dsa_public_key(raw: bytes) -> bytes:
    """SubjectPublicKeyInfo of the 64 raw bytes of an SLH-DSA-SHA2-256s public key."""
    if len(raw) != _SLH_DSA_PUBLIC_KEY_SIZE:
        raise Rejected("public_key_malformed", f"expected {_SLH_DSA_PUBLIC_KEY_SIZE} bytes, saw {len(raw)}")
    return _SLH_DSA_SPKI_PREFIX + raw


# Parsing costs 5 to 9 us; a shop has a few dozen keys. Keys come from the ledger or a pin, never from a stranger.
@lru_cache(maxsize=256)
def _load(public_key: bytes) -> _LoadedKey:
    if public_key.startswith(_SLH_DSA_SPKI_PREFIX):
        return _load_slh_dsa(public_key)
    try:
        key = serialization.load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise Rejected("public_key_malformed", "expected a SubjectPublicKeyInfo in DER of a supported type") from cause
    # Compressed points and lax DER would give one key several ids.
    canonical = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if canonical != public_key:
        raise Rejected("public_key_not_canonical", "expected the one DER form of this key (uncompressed, named curve)")
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _load_ecdsa(key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _LoadedKey("Ed25519", key.verify)
    if isinstance(key, mldsa.MLDSA44PublicKey):
        return _LoadedKey("ML-DSA-44", key.verify)
    if isinstance(key, mldsa.MLDSA65PublicKey):
        return _LoadedKey("ML-DSA-65", key.verify)
    if isinstance(key, mldsa.MLDSA87PublicKey):
        return _LoadedKey("ML-DSA-87", key.verify)
    raise Rejected("public_key_unsupported", f"{type(key).__name__} is not on the approved list")


def _load_ecdsa(key: ec.EllipticCurvePublicKey) -> _LoadedKey:
    if isinstance(key.curve, ec.SECP256R1):
        name, scheme = "P-256", ec.ECDSA(hashes.SHA256())
    elif isinstance(key.curve, ec.SECP384R1):
        name, scheme = "P-384", ec.ECDSA(hashes.SHA384())
    else:
        raise Rejected("public_key_unsupported", f"the curve {key.curve.name} is not on the approved list")

    def check(signature: bytes, message: bytes) -> None:
        half = len(signature) // 2
        der = encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
        key.verify(der, message, scheme)

    return _LoadedKey(name, check)


def _load_slh_dsa(public_key: bytes) -> _LoadedKey:
    raw = public_key[len(_SLH_DSA_SPKI_PREFIX) :]
    if len(raw) != _SLH_DSA_PUBLIC_KEY_SIZE:
        raise Rejected("public_key_malformed", f"expected {_SLH_DSA_PUBLIC_KEY_SIZE} key bytes, saw {len(raw)}")

    def check(signature: bytes, message: bytes) -> None:
        try:
            slh_dsa_sha2_256s.verify(raw, message, signature)
        except ValueError as cause:  # pqcrypto's InvalidSignatureError is one, and so is its size check
            raise InvalidSignature from cause

    return _LoadedKey("SLH-DSA-SHA2-256s", check)
