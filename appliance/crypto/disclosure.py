"""Values that can be erased: a commitment goes into the log, the value lies encrypted under its subject's key.

Owns the two functions. Erasing a person is forgetting the subject key: what is left in tables, WAL, free pages and
backups is noise, and the commitment stays provable. Must never see where keys or values are stored.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto.random import random_piece
from appliance.model.errors import Corrupt
from appliance.model.invariants import ensure

SUBJECT_KEY_SIZE: Final = 32
# A card's last digits have 10,000 values: without a salt the hash would be the value. The size is fixed, so that
# salt || value can be read in one way only.
SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 12
_TAG_SIZE: Final = 16
SEALED_OVERHEAD: Final = _NONCE_SIZE + _TAG_SIZE


def commit(salt: bytes, value: bytes) -> bytes:
    """SHA-256(salt || value), 32 bytes."""
    ensure(len(salt) == SALT_SIZE, f"a field salt has {SALT_SIZE} bytes")
    return hashlib.sha256(salt + value).digest()


def seal_value(subject_key: bytes, aad: bytes, value: bytes) -> bytes:
    """nonce || AES-256-GCM ciphertext || tag, 28 bytes longer than `value`.

    The nonce is random from the kernel: a subject has far fewer than 2**32 values (SP 800-38D section 8.3).

    Args:
        aad: says which field of which entry this is, so that sealed values cannot be exchanged.
    """
    ensure(len(subject_key) == SUBJECT_KEY_SIZE, f"a subject key has {SUBJECT_KEY_SIZE} bytes")
    nonce = random_piece()[:_NONCE_SIZE]
    return nonce + AESGCM(subject_key).encrypt(nonce, value, aad)


def open_value(subject_key: bytes, aad: bytes, sealed: bytes) -> bytes:
    """The value; raises Corrupt `disclosure_unreadable` when key, `aad` or bytes are not those of sealing."""
    ensure(len(subject_key) == SUBJECT_KEY_SIZE, f"a subject key has {SUBJECT_KEY_SIZE} bytes")
    if len(sealed) < SEALED_OVERHEAD:
        raise Corrupt("disclosure_unreadable", f"expected at least {SEALED_OVERHEAD} bytes, saw {len(sealed)}")
    try:
        return AESGCM(subject_key).decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], aad)
    except InvalidTag:
        raise Corrupt("disclosure_unreadable", "the tag does not fit key, place and bytes") from None
