"""Private keys held in memory: terminals, the post-quantum log key after its envelope was opened, tests.

Owns making, loading and using them. Keys of the HSM never come here, and the owner's key is in `owner.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from appliance.crypto import cose, signature
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

ML_DSA_SEED_SIZE: Final = 32

_PrivateKey: TypeAlias = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key that signs with one algorithm.

    Attributes:
        algorithm: COSE algorithm id.
        public_key: SubjectPublicKeyInfo, DER.
        key_id: SHA-256 of `public_key`.
    """

    algorithm: int
    public_key: bytes
    key_id: bytes
    _private_key: _PrivateKey = field(repr=False)
    _sign: Callable[[bytes], bytes] = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """A signature in COSE form."""
        return self._sign(message)

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS#8 PEM, encrypted when a passphrase is given."""
        protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )


def generate(algorithm: int) -> SigningKey:
    """A new key for a COSE algorithm: ESP256, ES256, ESP384, ES384, Ed25519, EdDSA or ML-DSA."""
    key_type = signature.algorithm(algorithm).key_type
    makers: dict[str, Callable[[], _PrivateKey]] = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
        "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
        "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
    }
    if key_type not in makers:
        raise Rejected("algorithm_unsupported", f"keys of type {key_type} are not made here")
    return _wrap(algorithm, makers[key_type]())


def from_pem(algorithm: int, pem: bytes, passphrase: bytes | None = None) -> SigningKey:
    """The key of a PKCS#8 PEM; Rejected `private_key_malformed` or `algorithm_key_mismatch`."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as cause:
        raise Rejected("private_key_malformed", "expected PKCS#8 in PEM and its passphrase if it has one") from cause
    if not isinstance(key, _PrivateKey):
        raise Rejected("private_key_malformed", f"{type(key).__name__} is not a signing key of ours")
    return _wrap(algorithm, key)


def ml_dsa_87_from_seed(seed: bytes) -> SigningKey:
    """The ML-DSA-87 key that a 32-byte seed determines (FIPS 204 algorithm 6)."""
    ensure(len(seed) == ML_DSA_SEED_SIZE, "an ML-DSA seed has 32 bytes")
    return _wrap(cose.ML_DSA_87, mldsa.MLDSA87PrivateKey.from_seed_bytes(seed))


def ed25519_from_seed(seed: bytes) -> SigningKey:
    """The Ed25519 key that a 32-byte seed determines (RFC 8032 section 5.1.5)."""
    ensure(len(seed) == ML_DSA_SEED_SIZE, "an Ed25519 seed has 32 bytes")
    return _wrap(cose.ED25519, ed25519.Ed25519PrivateKey.from_private_bytes(seed))


def p384_from_scalar(scalar: int) -> SigningKey:
    """The P-384 key of a private scalar; Rejected `private_key_malformed` when it is not of the group."""
    try:
        key = ec.derive_private_key(scalar, ec.SECP384R1())
    except ValueError as cause:
        raise Rejected("private_key_malformed", "expected a scalar of the P-384 group") from cause
    return _wrap(cose.ESP384, key)


class TerminalKey:
    """The key of a terminal: P-256, signs raw r || s. It is in a file here; a platform key store is better."""

    __slots__ = ("_key",)

    def __init__(self, key: SigningKey) -> None:
        ensure(key.algorithm == cose.ESP256, "a terminal signs with ESP256")
        self._key = key

    @classmethod
    def generate(cls) -> TerminalKey:
        return cls(generate(cose.ESP256))

    @classmethod
    def load(cls, pem: bytes, passphrase: bytes | None = None) -> TerminalKey:
        """From PKCS#8 PEM, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes it."""
        return cls(from_pem(cose.ESP256, pem, passphrase))

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        return self._key.to_pem(passphrase)

    @property
    def algorithm(self) -> int:
        return self._key.algorithm

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    @property
    def key_id(self) -> bytes:
        return self._key.key_id

    def sign(self, message: bytes) -> bytes:
        """Raw r || s, 64 bytes."""
        return self._key.sign(message)


def _wrap(algorithm: int, key: _PrivateKey) -> SigningKey:
    public_key = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    row = signature.algorithm(algorithm)
    if signature.key_type(public_key) != row.key_type:
        raise Rejected("algorithm_key_mismatch", f"expected a {row.key_type} key for {row.name}")
    return SigningKey(
        algorithm=algorithm,
        public_key=public_key,
        key_id=signature.key_id(public_key),
        _private_key=key,
        _sign=_ecdsa(key) if isinstance(key, ec.EllipticCurvePrivateKey) else key.sign,
    )


def _ecdsa(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    scheme = ec.ECDSA(hashes.SHA256() if key.key_size == 256 else hashes.SHA384())
    half = key.key_size // 8

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, scheme))
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")

    return sign
