"""Signers and the cipher of the box: keys in the HSM, and keys that an HSM key unsealed.

Owns the mapping from COSE algorithms to the token's. Never holds a private key of the HSM, never blocks the event loop
and never returns a signature that was not verified against the pinned public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.adapters.hsm_link import HsmLink, HsmSession, HsmState
from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.crypto import cose, signature
from appliance.crypto.signing_key import SigningKey as MemoryKey
from appliance.model.errors import Unavailable
from appliance.model.invariants import ensure
from drivers.hsm.cipher import RUNG_ECDH, RUNG_GCM, Cipher, EcdhCipher, GcmCipher
from drivers.hsm.keys import Algorithm, KeyRef
from drivers.hsm.signing import SigningKey

SIGN_DEADLINE_MS: Final = 5_000
CIPHER_DEADLINE_MS: Final = 5_000

COSE_OF: Final = {
    Algorithm.ED25519: cose.ED25519,
    Algorithm.P256: cose.ESP256,
    Algorithm.P384: cose.ESP384,
    Algorithm.ML_DSA_87: cose.ML_DSA_87,
}
_ALGORITHM_OF: Final = {number: algorithm for algorithm, number in COSE_OF.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedHsmKey:
    """Which key of the token, as our records pin it.

    Attributes:
        token_key_id: CKA_ID.
        algorithm: COSE id.
        public_key: SubjectPublicKeyInfo, DER.
    """

    token_key_id: bytes
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        ensure(self.algorithm in _ALGORITHM_OF, "a token signs with Ed25519, ESP256, ESP384 or ML-DSA-87")

    @property
    def ref(self) -> KeyRef:
        return KeyRef(key_id=self.token_key_id, public_sha256=signature.key_id(self.public_key))


class HsmSigner:
    """Satisfies `ports/signer.py` with a key of the token."""

    def __init__(self, *, link: HsmLink, key: PinnedHsmKey, deadline_ms: int = SIGN_DEADLINE_MS) -> None:
        self._link = link
        self._key = key
        self._deadline_ms = deadline_ms

    @property
    def algorithm(self) -> int:
        return self._key.algorithm

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    @property
    def key_id(self) -> bytes:
        return signature.key_id(self._key.public_key)

    @property
    def state(self) -> HsmState:
        return self._link.state

    async def sign(self, message: bytes) -> bytes:
        """A verified signature in COSE form; see `ports/signer.py`."""
        return await self._link.call(lambda opened: self._open(opened).sign(message), self._deadline_ms)

    async def prove(self) -> None:
        """Raise Corrupt `hsm_key_refused` unless the token holds this very key; signs nothing."""
        await self._link.call(lambda opened: _nothing(self._open(opened)), self._deadline_ms)

    def _open(self, opened: HsmSession) -> SigningKey:
        algorithm = _ALGORITHM_OF[self._key.algorithm]
        return opened.once(self._key, lambda session: SigningKey.open(session, self._key.ref, algorithm))


def _nothing(_key: SigningKey) -> None:
    """The token's objects stay on its thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedKek:
    """Which key of the token encrypts, and on which rung; `public_sha256` is None for AES, which has no public key."""

    token_key_id: bytes
    rung: int
    public_sha256: bytes | None

    def __post_init__(self) -> None:
        ensure(self.rung in (RUNG_GCM, RUNG_ECDH), "the cipher has two rungs")
        ensure((self.public_sha256 is None) == (self.rung == RUNG_GCM), "only the ECDH rung has a public key to pin")


class HsmCipher:
    """Authenticated encryption under the key-encryption key of the token; satisfies `crypto/envelope.py`."""

    def __init__(self, *, link: HsmLink, kek: PinnedKek, deadline_ms: int = CIPHER_DEADLINE_MS) -> None:
        self._link = link
        self._kek = kek
        self._deadline_ms = deadline_ms

    async def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        """A blob that only this token opens, only under the same `aad`; opened once before it is returned."""
        return await self._link.call(lambda opened: self._open(opened).wrap(plaintext, aad), self._deadline_ms)

    async def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        """The plaintext. Corrupt `hsm_blob_refused` when `blob` or `aad` is not what was wrapped."""
        return await self._link.call(lambda opened: self._open(opened).unwrap(blob, aad), self._deadline_ms)

    def _open(self, opened: HsmSession) -> Cipher:
        kek = self._kek
        if kek.public_sha256 is None:
            return opened.once(kek, lambda session: GcmCipher(session, kek.token_key_id))
        ref = KeyRef(key_id=kek.token_key_id, public_sha256=kek.public_sha256)
        return opened.once(kek, lambda session: EcdhCipher(session, ref))


class EnvelopedSigner:
    """Satisfies `ports/signer.py` with a key whose seed came out of an envelope.

    ML-DSA-87 takes 1.5 ms and more, so it runs on its own thread; `cryptography` releases the GIL meanwhile.
    """

    def __init__(self, *, key: MemoryKey, deadline_ms: int = SIGN_DEADLINE_MS) -> None:
        self._key = key
        self._deadline_ms = deadline_ms
        self._thread = OwnerThread(
            kind=SessionKind(
                name="enveloped-signer",
                open=lambda: key,
                close=lambda _key: None,
                translate=lambda _error: None,
                is_fatal=lambda _error: False,
            )
        )

    @property
    def algorithm(self) -> int:
        return self._key.algorithm

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    @property
    def key_id(self) -> bytes:
        return self._key.key_id

    async def sign(self, message: bytes) -> bytes:
        """A verified signature in COSE form; see `ports/signer.py`."""
        return await self._thread.run(lambda key: _sign_verified(key, message), self._deadline_ms)

    async def close(self) -> None:
        await self._thread.close()


def _sign_verified(key: MemoryKey, message: bytes) -> bytes:
    made = key.sign(message)
    if not signature.verify(key.algorithm, key.public_key, message, made):
        # A flipped bit in memory, or a broken library: the signature could also tell about the key, so it is dropped.
        raise Unavailable("signature_untrue", "the signature does not verify under its own key")
    return made
