"""What can go wrong with a token, named by what the caller must do.

PKCS#11 return codes mislead: a logged-out session says "object handle invalid" or finds no key, a tampered ciphertext
says "general error", a vanished token still opens sessions. So the code alone decides nothing but PIN and mechanism
errors; every other code means: connect again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pkcs11.exceptions import (
    MechanismInvalid,
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    UserPinNotInitialized,
)

PIN_ERRORS = (PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked, UserPinNotInitialized)


class HsmError(Exception):
    """Base of the driver's errors; never raised itself. Messages hold no PIN and no key."""


class TokenAway(HsmError):
    """The library or the token does not answer as it must: connect again."""


class StaleGeneration(TokenAway):
    """An object made before the last Initialize was used; its handle may name another key now. Connect again."""


class KeyMissing(TokenAway):
    """No key with that id is visible. A logged-out session and a half-present token look the same: connect again."""


class SignatureUntrue(TokenAway):
    """The signature does not verify under the pinned key; it was thrown away. Connect again."""


class LibraryBusy(HsmError):
    """A call hangs inside the library, so it cannot be finalised: only a new process helps."""


class TokenRefused(HsmError):
    """Not exactly one token fits, or somebody else in this process has logged in: a person must look."""


class PinRefused(HsmError):
    """The token refused the PIN. It is never presented again in this process: tokens lock after a few tries."""


class KeyRefused(HsmError):
    """The key is not the pinned one, is not alone under its id, or could leave the token: a person must look."""


class MechanismMissing(HsmError):
    """The token cannot do this at all: choose another rung of the ladder."""


class BlobRefused(HsmError):
    """The ciphertext was changed, or belongs to another key or purpose. The token is well."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the binding's exceptions into ours; `what` was being done."""
    try:
        yield
    except MechanismInvalid as cause:
        raise MechanismMissing(f"{what}: the token lacks the mechanism") from cause
    except PKCS11Error as cause:
        raise TokenAway(f"{what}: {type(cause).__name__}") from cause
