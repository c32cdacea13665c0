"""A voucher: money that the shop owes to whoever holds its code. Pure.

The code is 120 random bits, nothing else: it says neither amount nor owner, and who holds it may spend it. The log
knows a voucher by the hash of its code alone, and the receipt of its issue is the box's signature on it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, NewType

from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

VoucherId = NewType("VoucherId", bytes)
"""SHA-256("tillstone/voucher/v1" || the 15 bytes behind the code), 32 bytes: with 120 random bits it needs no salt."""

SECRET_SIZE: Final = 15
_DOMAIN: Final = b"tillstone/voucher/v1"
_CHECK_DOMAIN: Final = b"tillstone/voucher/check/v1"
_CHECK_CHARACTERS: Final = 4  # 20 bits: a slip of the hand is told from a code that nobody issued
_CHARACTERS: Final = SECRET_SIZE * 8 // 5 + _CHECK_CHARACTERS
_GROUP: Final = 4
# Crockford's base32 for eyes and hands: no I, L, O, U. https://www.crockford.com/base32.html
_CROCKFORD: Final = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RFC_4648: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_WRITTEN: Final = bytes.maketrans(_RFC_4648, _CROCKFORD)
_READ: Final = bytes.maketrans(_CROCKFORD, _RFC_4648)
_MISREAD: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})


def code_of(secret: bytes) -> str:
    """Seven groups of four characters, the last of them a checksum."""
    ensure(len(secret) == SECRET_SIZE, f"a voucher's code stands for {SECRET_SIZE} random bytes")
    characters = base64.b32encode(secret).translate(_WRITTEN).decode() + _check(secret)
    return "-".join(characters[at : at + _GROUP] for at in range(0, _CHARACTERS, _GROUP))


def voucher_of(code: str) -> VoucherId:
    """The voucher that a code opens, however it was typed. Raises Rejected `voucher_code_invalid`."""
    typed = code.upper().translate(_MISREAD)
    characters = typed.encode("ascii", "replace")
    if len(typed) == _CHARACTERS and set(characters) <= set(_CROCKFORD):
        secret = base64.b32decode(characters[:-_CHECK_CHARACTERS].translate(_READ))
        if _check(secret) == typed[-_CHECK_CHARACTERS:]:
            return VoucherId(hashlib.sha256(_DOMAIN + secret).digest())
    raise Rejected(
        "voucher_code_invalid",
        f"expected a voucher's code: {_CHARACTERS} characters, the last four check the others",
    )


def _check(secret: bytes) -> str:
    digest = hashlib.sha256(_CHECK_DOMAIN + secret).digest()
    return base64.b32encode(digest[:5]).translate(_WRITTEN).decode()[:_CHECK_CHARACTERS]
