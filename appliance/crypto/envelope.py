"""The envelope of a 32-byte seed under a key that never leaves the HSM.

Owns the bytes of the envelope and the proof, at every opening, that the seed still is the key it claims to be. Must
never keep the seed: it becomes a signing key and is dropped (Python cannot wipe it; nothing claims that it is wiped).

The header is authenticated by the token, so an envelope for one purpose cannot be opened as another. What the token
does (AES-GCM, or a key from an ECDH P-384 ladder) is the cipher's matter: a tag or a wrong key is its error.

Source: docs/formats/envelope.md, version 1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.crypto import cbor, cose, signature, signing_key
from appliance.crypto.signing_key import SigningKey
from appliance.model.errors import Corrupt, Rejected
from appliance.model.invariants import ensure

VERSION: Final = 1
ENVELOPE_SIZE_MAX: Final = 1024
SEED_SIZE: Final = 32
POST_QUANTUM_PURPOSE: Final = "log_post_quantum"
NOTE_PURPOSE: Final = "log_note"
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_PAIRWISE_MESSAGE: Final = b"tillstone/envelope/pairwise"
_FROM_SEED: Final[dict[int, Callable[[bytes], SigningKey]]] = {
    cose.ML_DSA_87: signing_key.ml_dsa_87_from_seed,
    cose.ED25519: signing_key.ed25519_from_seed,
}


class EnvelopeCipher(Protocol):
    """Authenticated encryption under a key inside the token."""

    async def wrap(self, plaintext: bytes, aad: bytes) -> bytes: ...
    async def unwrap(self, blob: bytes, aad: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeHeader:
    """What the envelope says about its seed; the token authenticates these bytes.

    Attributes:
        purpose: what the key is for, such as "log_post_quantum".
        algorithm: COSE id, ML-DSA-87 or Ed25519.
        key_id: SHA-256 of the SubjectPublicKeyInfo.
        public_key_sha384: SHA-384 of the same.
    """

    purpose: str
    algorithm: int
    key_id: bytes
    public_key_sha384: bytes

    def __post_init__(self) -> None:
        ensure(_PURPOSE.match(self.purpose) is not None, "a purpose is 1 to 32 of a-z, 0-9 and _")
        ensure(self.algorithm in _FROM_SEED, "only a seed of ML-DSA-87 or Ed25519 is enveloped")
        ensure(len(self.key_id) == 32 and len(self.public_key_sha384) == 48, "hashes have their size")

    def encode(self) -> bytes:
        return cbor.encode([VERSION, self.purpose, self.algorithm, self.key_id, self.public_key_sha384])


def header_for(purpose: str, algorithm: int, seed: bytes) -> EnvelopeHeader:
    """The header that describes `seed`."""
    ensure(algorithm in _FROM_SEED, "only a seed of ML-DSA-87 or Ed25519 is enveloped")
    key = _FROM_SEED[algorithm](seed)
    return EnvelopeHeader(
        purpose=purpose,
        algorithm=algorithm,
        key_id=key.key_id,
        public_key_sha384=hashlib.sha384(key.public_key).digest(),
    )


async def seal(cipher: EnvelopeCipher, seed: bytes, header: EnvelopeHeader) -> bytes:
    """The envelope of `seed`, opened again before it is returned: a key is not used until it can be recovered."""
    ensure(len(seed) == SEED_SIZE, "an enveloped seed has 32 bytes")
    ensure(header == header_for(header.purpose, header.algorithm, seed), "the header describes the seed")
    header_bytes = header.encode()
    envelope = cbor.encode([header_bytes, await cipher.wrap(seed, header_bytes)])
    await open_envelope(cipher, envelope, purpose=header.purpose)
    return envelope


async def open_envelope(cipher: EnvelopeCipher, envelope: bytes, *, purpose: str) -> SigningKey:
    """The signing key in `envelope`, proven to be the one its header names.

    Raises:
        Corrupt: `envelope_malformed`, `envelope_purpose_wrong`, `envelope_key_mismatch`.
        Whatever the cipher raises: the token is away, or its tag does not fit.
    """
    header_bytes, wrapped = _parts(envelope)
    header = read_header(envelope)
    if header.purpose != purpose:
        raise Corrupt("envelope_purpose_wrong", f"expected an envelope for {purpose}, saw one for {header.purpose}")
    seed = await cipher.unwrap(wrapped, header_bytes)
    if len(seed) != SEED_SIZE:
        raise Corrupt("envelope_malformed", f"expected a seed of {SEED_SIZE} bytes, saw {len(seed)}")
    key = _FROM_SEED[header.algorithm](seed)
    if key.key_id != header.key_id or hashlib.sha384(key.public_key).digest() != header.public_key_sha384:
        raise Corrupt("envelope_key_mismatch", "the seed gives another public key than the header names")
    # Pairwise consistency (FIPS 140-3 IG 10.3.A): catches a broken library before it signs a head.
    if not signature.verify(key.algorithm, key.public_key, _PAIRWISE_MESSAGE, key.sign(_PAIRWISE_MESSAGE)):
        raise Corrupt("envelope_key_mismatch", "the key does not verify its own signature")
    return key


def read_header(envelope: bytes) -> EnvelopeHeader:
    """What `envelope` says about itself, not yet authenticated: to find the right token key."""
    header_bytes, _ = _parts(envelope)
    try:
        fields = cbor.decode(header_bytes, size_max=ENVELOPE_SIZE_MAX)
    except Rejected as cause:
        raise Corrupt("envelope_malformed", "the header is not strict CBOR") from cause
    match fields:
        case [1, str(purpose), int(algorithm), bytes(key_id), bytes(public_key_sha384)] if (
            _PURPOSE.match(purpose) and algorithm in _FROM_SEED and len(key_id) == 32 and len(public_key_sha384) == 48
        ):
            return EnvelopeHeader(
                purpose=purpose, algorithm=algorithm, key_id=key_id, public_key_sha384=public_key_sha384
            )
        case _:
            raise Corrupt("envelope_malformed", "expected a header of version 1")


def _parts(envelope: bytes) -> tuple[bytes, bytes]:
    try:
        parts = cbor.decode(envelope, size_max=ENVELOPE_SIZE_MAX, depth_max=1)
    except Rejected as cause:
        raise Corrupt("envelope_malformed", "not strict CBOR") from cause
    match parts:
        case [bytes(header_bytes), bytes(wrapped)]:
            return header_bytes, wrapped
        case _:
            raise Corrupt("envelope_malformed", "expected a header and a wrapped seed")
