"""The bodies of entries about the vault of provider tokens: names, bindings and key numbers, never a token.

As `entries.py`: what is written stays. Source: docs/formats/entry-kinds.md.
"""

from __future__ import annotations

from typing import Final

from appliance.wire.entries import Asked
from appliance.wire.requests import Wire

KEPT: Final = "token_kept"
FORGOTTEN: Final = "token_forgotten"
KEY_MADE: Final = "vault_key_made"
KEY_DESTROYED: Final = "vault_key_destroyed"


class TokenKeptEntry(Wire, frozen=True, kw_only=True):
    """kind `token_kept`: a provider's token lies in the vault under `name`.

    Attributes:
        under: number of the subject key of the customer whom it is bound to: erasing that key erases the token.
        expires: from then on (Unix ms) the box uses it no longer; None: it is good until it is forgotten.
        provider: who gave it, by the name of the settings' section.
        asked: absent where the token came with a restored vault, under the name that it had.
    """

    name: str
    asked: Asked | None = None
    under: int | None = None
    expires: int | None = None
    provider: str
    purposes: tuple[str, ...]


class TokenForgottenEntry(Wire, frozen=True, kw_only=True):
    """kind `token_forgotten`: the token of `name` is used no more and is removed from the vault.

    `asked` is absent where the operator of the box forgot it.
    """

    name: str
    asked: Asked | None = None
    reason: str = ""


class VaultKeyMadeEntry(Wire, frozen=True, kw_only=True):
    """kind `vault_key_made`: tokens are sealed under the data key `key` (its number) from now on."""

    key: int


class VaultKeyDestroyedEntry(Wire, frozen=True, kw_only=True):
    """kind `vault_key_destroyed`: nothing lies under the data key any more, and it is removed."""

    key: int
