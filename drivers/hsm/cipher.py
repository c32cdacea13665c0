"""Authenticated encryption under a key that never leaves the token: `wrap` and `unwrap`, one rung of a ladder each.

Never lets a changed blob look like a broken token, and never returns a blob it could not open again.

A blob begins with its rung; that byte is authenticated, so a blob cannot be moved to another rung:

    0x01 | iv 12 | AES-256-GCM ciphertext and tag 16          key: AES-256 in the token
    0x02 | point 97 | iv 12 | AES-256-GCM ciphertext and tag  key: HKDF-SHA384(ECDH P-384), for tokens without GCM

On rung 2 the token keeps a P-384 key; each blob has an ephemeral one, whose private half is dropped and whose public
half lies in the blob. The token derives the shared secret (CKM_ECDH1_DERIVE) and the rest happens in software. Whoever
knows the public key can make such a blob, so what it holds must prove itself (a seed does: its public key is pinned).
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pkcs11 import KDF, Attribute, GCMParams, KeyType, Mechanism
from pkcs11.exceptions import EncryptedDataInvalid, EncryptedDataLenRange, FunctionFailed, GeneralError

from drivers.hsm.errors import BlobRefused, KeyRefused, MechanismMissing, TokenAway
from drivers.hsm.keys import FoundKey, KeyRef, Purpose, find_aes_key, find_private_key
from drivers.hsm.token import Session

PLAINTEXT_SIZE_MAX: Final = 4096
RUNG_GCM: Final = 1
RUNG_ECDH: Final = 2
_CONTEXT: Final = b"tillstone/hsm/cipher/1"
_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
_POINT_SIZE: Final = 97  # uncompressed P-384
_SECRET_SIZE: Final = 48
_KEY_SIZE: Final = 32
# What tokens say to a tag that does not fit. Two of them also mean a broken token, so a probe decides.
_DECRYPT_ERRORS: Final = (GeneralError, FunctionFailed, EncryptedDataInvalid, EncryptedDataLenRange)


class Cipher(Protocol):
    """One rung."""

    def wrap(self, plaintext: bytes, aad: bytes) -> bytes: ...
    def unwrap(self, blob: bytes, aad: bytes) -> bytes: ...


def choose_rung(mechanisms: frozenset[int]) -> int:
    """The best rung of a token with these mechanisms."""
    if Mechanism.AES_GCM in mechanisms and Mechanism.AES_KEY_GEN in mechanisms:
        return RUNG_GCM
    if Mechanism.ECDH1_DERIVE in mechanisms and Mechanism.EC_KEY_PAIR_GEN in mechanisms:
        return RUNG_ECDH
    raise MechanismMissing("the token has neither AES-GCM nor ECDH")


class GcmCipher:
    """Rung 1: the token encrypts."""

    def __init__(self, session: Session, key_id: bytes) -> None:
        self._session = session
        self._key = find_aes_key(session, key_id)

    def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        """A blob that only this key opens, only under the same `aad`."""
        _refuse_size(plaintext)
        iv = self._session.random(_IV_SIZE)
        with self._session.used("encrypt with AES-GCM"):
            sealed = bytes(self._key.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=_gcm(iv, aad)))
        blob = bytes([RUNG_GCM]) + iv + sealed
        if self.unwrap(blob, aad) != plaintext:
            raise TokenAway("AES-GCM: the token does not open what it has just sealed")
        return blob

    def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        """The plaintext; BlobRefused when the blob or `aad` is not what was sealed."""
        _refuse_shape(blob, RUNG_GCM, 1 + _IV_SIZE)
        try:
            return self._decrypt(blob[1 : 1 + _IV_SIZE], blob[1 + _IV_SIZE :], aad)
        except TokenAway as cause:
            if not isinstance(cause.__cause__, _DECRYPT_ERRORS):
                raise
            self._prove_alive()
            raise BlobRefused("the blob was changed, or belongs to another key or purpose") from cause

    def _decrypt(self, iv: bytes, sealed: bytes, aad: bytes) -> bytes:
        with self._session.used("decrypt with AES-GCM"):
            return bytes(self._key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=_gcm(iv, aad)))

    def _prove_alive(self) -> None:
        """Open a fresh blob, so that the token and not the data is to blame when this raises TokenAway."""
        iv = self._session.random(_IV_SIZE)
        with self._session.used("probe AES-GCM"):
            sealed = bytes(self._key.encrypt(_CONTEXT, mechanism=Mechanism.AES_GCM, mechanism_param=_gcm(iv, b"")))
        if self._decrypt(iv, sealed, b"") != _CONTEXT:
            raise TokenAway("AES-GCM: the token does not open what it has just sealed")


class EcdhCipher:
    """Rung 2: the token derives, software encrypts."""

    def __init__(self, session: Session, ref: KeyRef) -> None:
        self._session = session
        self._found = _p384(find_private_key(session, ref, Purpose.DERIVE))
        self._token_point = _point(self._found.public_key)

    def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        """A blob that only the token's key opens, only under the same `aad`."""
        _refuse_size(plaintext)
        ephemeral = ec.generate_private_key(ec.SECP384R1())
        token_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), self._token_point)
        point = _point(ephemeral.public_key())
        iv = self._session.random(_IV_SIZE)
        key = self._key(ephemeral.exchange(ec.ECDH(), token_key), point)
        blob = bytes([RUNG_ECDH]) + point + iv + AESGCM(key).encrypt(iv, plaintext, _bound(RUNG_ECDH, aad))
        if self.unwrap(blob, aad) != plaintext:
            raise TokenAway("ECDH: the token does not open what was sealed for it")
        return blob

    def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        """The plaintext; BlobRefused when the blob or `aad` is not what was sealed."""
        _refuse_shape(blob, RUNG_ECDH, 1 + _POINT_SIZE + _IV_SIZE)
        point, rest = blob[1 : 1 + _POINT_SIZE], blob[1 + _POINT_SIZE :]
        iv, sealed = rest[:_IV_SIZE], rest[_IV_SIZE:]
        try:
            # Refuse a point off the curve before the token sees it: invalid-curve attacks read the private key out.
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
        except ValueError as cause:
            raise BlobRefused("the blob's ephemeral key is no point of P-384") from cause
        key = self._key(self._derive(point), point)
        try:
            return AESGCM(key).decrypt(iv, sealed, _bound(RUNG_ECDH, aad))
        except InvalidTag as cause:
            raise BlobRefused("the blob was changed, or belongs to another key or purpose") from cause

    def _derive(self, point: bytes) -> bytes:
        template = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}  # a secret of this blob alone
        with self._session.used("derive by ECDH"):
            derived = self._found.handle.derive_key(
                KeyType.GENERIC_SECRET,
                _SECRET_SIZE * 8,
                capabilities=0,
                mechanism=Mechanism.ECDH1_DERIVE,
                mechanism_param=(KDF.NULL, None, point),
                template=template,
            )
            secret = bytes(derived[Attribute.VALUE])
            derived.destroy()
        return secret.rjust(_SECRET_SIZE, b"\0")  # some tokens drop leading zeros of the x coordinate

    def _key(self, secret: bytes, point: bytes) -> bytes:
        """Both public keys are bound in, so a shared secret gives one key for one pair (RFC 9180 section 4.1)."""
        derivation = HKDF(hashes.SHA384(), length=_KEY_SIZE, salt=None, info=_CONTEXT + point + self._token_point)
        return derivation.derive(secret)


def _gcm(iv: bytes, aad: bytes) -> GCMParams:
    return GCMParams(iv, _bound(RUNG_GCM, aad), _TAG_SIZE * 8)


def _bound(rung: int, aad: bytes) -> bytes:
    return _CONTEXT + bytes([rung]) + aad


def _p384(found: FoundKey) -> FoundKey:
    if not isinstance(found.public_key, ec.EllipticCurvePublicKey) or found.public_key.key_size != 384:
        raise KeyRefused("the key for ECDH is not on P-384")
    return found


def _point(public_key: Any) -> bytes:
    point: bytes = public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return point


def _refuse_size(plaintext: bytes) -> None:
    if not 0 < len(plaintext) <= PLAINTEXT_SIZE_MAX:
        raise BlobRefused(f"expected 1 to {PLAINTEXT_SIZE_MAX} bytes, saw {len(plaintext)}")


def _refuse_shape(blob: bytes, rung: int, overhead: int) -> None:
    if not blob or blob[0] != rung:
        raise BlobRefused(f"expected rung {rung}, saw {blob[:1].hex() or 'nothing'}")
    if not overhead + _TAG_SIZE < len(blob) <= overhead + _TAG_SIZE + PLAINTEXT_SIZE_MAX:
        raise BlobRefused(f"{len(blob)} bytes is no blob of rung {rung}")
