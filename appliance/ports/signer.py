"""What the ledger needs from a key: one algorithm, one public key, one verb."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """A private key that never leaves its home (token or envelope).

    Attributes:
        algorithm: COSE algorithm id (fully specified, RFC 9864): -9 ESP256, -51 ESP384, -19 Ed25519, -50 ML-DSA-87.
        public_key: SubjectPublicKeyInfo, DER.
        key_id: SHA-256 of `public_key`, 32 bytes.
    """

    @property
    def algorithm(self) -> int: ...
    @property
    def public_key(self) -> bytes: ...
    @property
    def key_id(self) -> bytes: ...

    async def sign(self, message: bytes) -> bytes:
        """Sign `message`; the signature is in COSE form (raw r||s for ECDSA) and was verified before return.

        Raises:
            Unavailable: the device is away; nothing was signed.
            OutcomeUnknown: the deadline passed inside the device; a signature may exist, none is used.
        """
        ...
