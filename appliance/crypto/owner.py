"""The owner key: the only thing a verifier pins.

Owns the pair ECDSA P-384 and SLH-DSA-SHA2-256s, what it signs (statements under a domain and a kind) and its files. It
lives offline: the process only ever verifies. Must never sign bytes without their kind, or a statement of one kind
could be shown as another. SLH-DSA rests on SHA-2 alone: it stands if lattices fall. Signing takes 0.6 s, verifying 1 to
2 ms.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pqcrypto.sign import slh_dsa_sha2_256s

from appliance.crypto import cbor, cose, hybrid, signature, signing_key
from appliance.crypto.signing_key import SigningKey
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

DOMAIN: Final = b"tillstone/owner/v1\x00"
STATEMENT_SIZE_MAX: Final = 1 << 20
SIGNATURE_SIZE_MAX: Final = 31_000  # 96 + 29,792 bytes of signatures, two key ids, heads
_PUBLIC_SIZE_MAX: Final = 512
_FILE_SIZE_MAX: Final = 4096
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_SCALAR_SIZE: Final = 48
_SLH_DSA_SECRET_SIZE: Final = 128
_SLH_DSA_PUBLIC_SIZE: Final = 64

# The file format fixes the cost, so that a file cannot ask for 100 GB: 128 MB and about half a second.
_SCRYPT_N: Final = 1 << 17
_SCRYPT_R: Final = 8
_FILE_AAD: Final = b"tillstone/owner-file/v2"
_FILE_BEGINS: Final[list[cbor.Value]] = ["tillstone owner key", 2]
_SALT_SIZE: Final = 32
_NONCE_SIZE: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerSignature:
    """Both signatures over one statement, with the names of the keys."""

    classical_key_id: bytes
    classical: bytes
    post_quantum_key_id: bytes
    post_quantum: bytes

    def encode(self) -> bytes:
        return cbor.encode([self.classical_key_id, self.classical, self.post_quantum_key_id, self.post_quantum])

    @classmethod
    def decode(cls, data: bytes) -> OwnerSignature:
        """Raises Rejected: every `cbor_*` code, `owner_signature_malformed`."""
        classical_id, classical, post_quantum_id, post_quantum = _byte_strings(
            cbor.decode(data, size_max=SIGNATURE_SIZE_MAX), 4, "owner_signature_malformed"
        )
        return cls(
            classical_key_id=classical_id,
            classical=classical,
            post_quantum_key_id=post_quantum_id,
            post_quantum=post_quantum,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerPublic:
    """The pin: two SubjectPublicKeyInfo."""

    classical: bytes
    post_quantum: bytes

    def encode(self) -> bytes:
        return cbor.encode([self.classical, self.post_quantum])

    @classmethod
    def decode(cls, data: bytes) -> OwnerPublic:
        """Raises Rejected: every `cbor_*` code, `owner_public_malformed`, `algorithm_key_mismatch`."""
        classical, post_quantum = _byte_strings(
            cbor.decode(data, size_max=_PUBLIC_SIZE_MAX), 2, "owner_public_malformed"
        )
        for public_key, expected in ((classical, "P-384"), (post_quantum, "SLH-DSA-SHA2-256s")):
            seen = signature.key_type(public_key)
            if seen != expected:
                raise Rejected("algorithm_key_mismatch", f"expected a {expected} key, saw {seen}")
        return cls(classical=classical, post_quantum=post_quantum)

    def pinned(self) -> hybrid.HybridPublic:
        return hybrid.HybridPublic(
            classical=hybrid.PinnedKey(algorithm=cose.ESP384, public_key=self.classical),
            post_quantum=hybrid.PinnedKey(algorithm=signature.SLH_DSA_SHA2_256S, public_key=self.post_quantum),
        )

    @property
    def fingerprint(self) -> str:
        """What a person compares: SHA-256 of the encoded pin, in hexadecimal."""
        return signature.key_id(self.encode()).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """What the owner hands over: a statement and his word for it; nothing is believed before `verify`."""

    statement: bytes
    owner_signature: bytes

    def encode(self) -> bytes:
        """The file, and the body of the entry that carries it."""
        return cbor.encode({"owner_signature": self.owner_signature, "statement": self.statement})

    @classmethod
    def decode(cls, data: bytes) -> SignedStatement:
        """Raises Rejected `owner_statement_malformed` and every `cbor_*` code."""
        match cbor.decode(data, size_max=STATEMENT_SIZE_MAX):
            case {"statement": bytes(statement), "owner_signature": bytes(owner_signature), **rest} if not rest:
                return cls(statement=statement, owner_signature=owner_signature)
        raise Rejected("owner_statement_malformed", "expected a map of `statement` and `owner_signature`")

    def verify(self, owner: OwnerPublic, kind: str) -> None:
        """Return if `owner` signed this as one of `kind`; raises Rejected as `verify_statement`."""
        verify_statement(owner, kind, self.statement, OwnerSignature.decode(self.owner_signature))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerKey:
    """The private pair."""

    public: OwnerPublic
    _classical: SigningKey = field(repr=False)
    _post_quantum: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> OwnerKey:
        _, secret = slh_dsa_sha2_256s.keygen()
        return _pair(signing_key.generate(cose.ESP384), secret)

    def sign(self, kind: str, statement: bytes) -> SignedStatement:
        """As `sign_statement`, in the form that is handed over."""
        return SignedStatement(statement=statement, owner_signature=self.sign_statement(kind, statement).encode())

    def sign_statement(self, kind: str, statement: bytes) -> OwnerSignature:
        """Sign `statement` as one of `kind`; blocks for about 0.6 s."""
        to_be_signed = statement_to_be_signed(kind, statement)
        result = OwnerSignature(
            classical_key_id=self._classical.key_id,
            classical=self._classical.sign(to_be_signed),
            post_quantum_key_id=signature.key_id(self.public.post_quantum),
            post_quantum=slh_dsa_sha2_256s.sign(self._post_quantum, to_be_signed),
        )
        # A fault during hash-based signing gives a key away (Castelnovi et al. 2018): never hand out an unchecked one.
        verify_statement(self.public, kind, statement, result)
        return result

    def to_bytes(self, passphrase: bytes | None) -> bytes:
        """Both private keys, short enough to be typed from paper; without a passphrase they are plain."""
        secret = self._classical_scalar() + self._post_quantum
        if passphrase is None:
            return cbor.encode([*_FILE_BEGINS, secret])
        salt, nonce = os.urandom(_SALT_SIZE), os.urandom(_NONCE_SIZE)
        sealed = AESGCM(_file_key(passphrase, salt)).encrypt(nonce, secret, _FILE_AAD)
        return cbor.encode([*_FILE_BEGINS, salt, nonce, sealed])

    def save(self, path: Path, passphrase: bytes | None) -> None:
        """Write a new file of mode 0600; an existing file is never replaced."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.to_bytes(passphrase))
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path, passphrase: bytes | None) -> OwnerKey:
        """As `from_bytes`, of a file."""
        return cls.from_bytes(path.read_bytes(), passphrase)

    @classmethod
    def from_bytes(cls, data: bytes, passphrase: bytes | None) -> OwnerKey:
        """Raises Rejected `owner_file_malformed`, or `owner_passphrase_wrong` (also for a changed file)."""
        body = cbor.decode(data, size_max=_FILE_SIZE_MAX)
        if not isinstance(body, list) or body[:2] != _FILE_BEGINS:
            raise Rejected("owner_file_malformed", "expected an owner key file of version 2")
        if (len(body) == 3) != (passphrase is None):
            raise Rejected("owner_passphrase_wrong", "expected a passphrase exactly when the file is encrypted")
        if passphrase is None:
            (secret,) = _byte_strings(body[2:], 1, "owner_file_malformed")
        else:
            salt, nonce, sealed = _byte_strings(body[2:], 3, "owner_file_malformed")
            try:
                secret = AESGCM(_file_key(passphrase, salt)).decrypt(nonce, sealed, _FILE_AAD)
            except (InvalidTag, ValueError):
                raise Rejected("owner_passphrase_wrong", "the passphrase does not open the file") from None
        if len(secret) != _SCALAR_SIZE + _SLH_DSA_SECRET_SIZE:
            raise Rejected("owner_file_malformed", f"expected 176 bytes of keys, saw {len(secret)}")
        scalar = int.from_bytes(secret[:_SCALAR_SIZE], "big")
        return _pair(signing_key.p384_from_scalar(scalar), secret[_SCALAR_SIZE:])

    def _classical_scalar(self) -> bytes:
        key = serialization.load_pem_private_key(self._classical.to_pem(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Rejected("owner_file_malformed", "expected a key on a curve")
        return key.private_numbers().private_value.to_bytes(_SCALAR_SIZE, "big")


def statement_to_be_signed(kind: str, statement: bytes) -> bytes:
    """Domain, kind, zero byte, statement. A kind holds no zero byte, so no two pairs give the same bytes."""
    ensure(_KIND.match(kind) is not None, "a kind of owner statement is 1 to 32 of a-z, 0-9 and _")
    ensure(len(statement) <= STATEMENT_SIZE_MAX, "an owner statement has at most 1 MiB")
    return DOMAIN + kind.encode() + b"\x00" + statement


def verify_statement(public: OwnerPublic, kind: str, statement: bytes, signed: OwnerSignature) -> None:
    """Return if both keys of the pin signed `statement` as one of `kind`.

    Raises:
        Rejected: the codes of `hybrid.require_both` with noun "signature".
    """
    to_be_signed = statement_to_be_signed(kind, statement)
    hybrid.require_both(
        public.pinned(),
        [
            hybrid.Signed(
                key_id=signed.classical_key_id,
                algorithm=cose.ESP384,
                to_be_signed=to_be_signed,
                signature=signed.classical,
            ),
            hybrid.Signed(
                key_id=signed.post_quantum_key_id,
                algorithm=signature.SLH_DSA_SHA2_256S,
                to_be_signed=to_be_signed,
                signature=signed.post_quantum,
            ),
        ],
    )


def _pair(classical: SigningKey, post_quantum: bytes) -> OwnerKey:
    if len(post_quantum) != _SLH_DSA_SECRET_SIZE:
        raise Rejected("owner_file_malformed", f"expected {_SLH_DSA_SECRET_SIZE} bytes, saw {len(post_quantum)}")
    # FIPS 205 section 9.1: the secret key ends with the public key.
    public_key = signature.slh_dsa_public_key(post_quantum[-_SLH_DSA_PUBLIC_SIZE:])
    return OwnerKey(
        public=OwnerPublic(classical=classical.public_key, post_quantum=public_key),
        _classical=classical,
        _post_quantum=post_quantum,
    )


def _file_key(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=1).derive(passphrase)


def _byte_strings(value: object, count: int, code: str) -> list[bytes]:
    if not isinstance(value, list) or len(value) != count:
        raise Rejected(code, f"expected an array of {count} byte strings")
    strings = [item for item in value if isinstance(item, bytes)]
    if len(strings) != count:
        raise Rejected(code, f"expected an array of {count} byte strings")
    return strings
