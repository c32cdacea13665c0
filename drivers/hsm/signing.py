"""Signatures by a key in the token, each verified against the pinned public key before anybody sees it.

Never returns an unverified signature: after a reconnect a stale handle was seen to sign with another key. ECDSA is
hashed here and signed as a digest, because SoftHSM has no mechanism that hashes too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Mechanism

from drivers.hsm.errors import KeyRefused, MechanismMissing, SignatureUntrue
from drivers.hsm.keys import Algorithm, FoundKey, KeyRef, PublicKey, Purpose, find_private_key
from drivers.hsm.token import Session

# What the token must have for each algorithm, the first of a ladder being the best.
_MECHANISMS: Final = {
    Algorithm.ED25519: frozenset({Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA}),
    Algorithm.P384: frozenset({Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA}),
    Algorithm.P256: frozenset({Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA}),
    Algorithm.ML_DSA_87: frozenset({Mechanism.ML_DSA_KEY_PAIR_GEN, Mechanism.ML_DSA}),
}
CLASSICAL_LADDER: Final = (Algorithm.ED25519, Algorithm.P384, Algorithm.P256)
# Begins with a name no COSE structure begins with, so this signature can never be shown as one over a real message.
_PAIRWISE_MESSAGE: Final = b"tillstone/hsm/pairwise"


def is_supported(mechanisms: Collection[int], algorithm: Algorithm) -> bool:
    """Whether a token with these mechanisms makes and uses keys of `algorithm`."""
    return _MECHANISMS[algorithm].issubset(mechanisms)


def choose_classical(mechanisms: Collection[int]) -> Algorithm:
    """The best classical algorithm of the token: Ed25519, else P-384, else P-256."""
    for algorithm in CLASSICAL_LADDER:
        if is_supported(mechanisms, algorithm):
            return algorithm
    raise MechanismMissing("the token has neither Ed25519 nor ECDSA")


class SigningKey:
    """One key of one session; get it with `open`."""

    def __init__(self, *, session: Session, found: FoundKey, algorithm: Algorithm) -> None:
        self._session = session
        self._found = found
        self._algorithm = algorithm

    @classmethod
    def open(cls, session: Session, ref: KeyRef, algorithm: Algorithm) -> SigningKey:
        """Find the pinned key, assert its attributes, prove with one signature that its private half is the right one.

        Raises:
            KeyMissing, KeyRefused, SignatureUntrue, TokenAway, StaleGeneration.
        """
        found = find_private_key(session, ref, Purpose.SIGN)
        if algorithm_of(found.public_key) is not algorithm:
            raise KeyRefused(f"key {ref.key_id.hex()} is not an {algorithm.value} key")
        key = cls(session=session, found=found, algorithm=algorithm)
        key.sign(_PAIRWISE_MESSAGE)
        return key

    def sign(self, message: bytes) -> bytes:
        """A verified signature: raw r || s for ECDSA, as RFC 8032 and FIPS 204 say for the others.

        Raises:
            SignatureUntrue: the token answered with bytes that do not verify.
        """
        with self._session.used(f"sign with {self._algorithm.value}"):
            signature = bytes(self._found.handle.sign(self._input(message), mechanism=self._mechanism()))
        if not verifies(self._found.public_key, message, signature):
            raise SignatureUntrue(f"{self._algorithm.value}: the token's signature does not verify")
        return signature

    def _input(self, message: bytes) -> bytes:
        match self._algorithm:
            case Algorithm.P256:
                return hashlib.sha256(message).digest()
            case Algorithm.P384:
                return hashlib.sha384(message).digest()
            case Algorithm.ED25519 | Algorithm.ML_DSA_87:
                return message

    def _mechanism(self) -> Mechanism:
        match self._algorithm:
            case Algorithm.P256 | Algorithm.P384:
                return Mechanism.ECDSA
            case Algorithm.ED25519:
                return Mechanism.EDDSA
            case Algorithm.ML_DSA_87:
                return Mechanism.ML_DSA


def algorithm_of(public_key: PublicKey) -> Algorithm:
    """What a public key verifies."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return Algorithm.P256 if public_key.key_size == 256 else Algorithm.P384
    return Algorithm.ED25519 if isinstance(public_key, ed25519.Ed25519PublicKey) else Algorithm.ML_DSA_87


def verifies(public_key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` is by the owner of `public_key`, judged outside the token."""
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            _verify_ecdsa(public_key, message, signature)
        else:
            public_key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _verify_ecdsa(public_key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> None:
    half = public_key.key_size // 8
    if len(signature) != 2 * half:
        raise InvalidSignature
    der = encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    hash_algorithm = hashes.SHA256() if half == 32 else hashes.SHA384()
    public_key.verify(der, message, ec.ECDSA(hash_algorithm))
