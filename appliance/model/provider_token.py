"""A provider's reusable token under the name that the box gave it: the name says nothing and opens nothing. Pure.

The token itself is money's key at the provider and lies in the vault alone (`payment/vault/`); entries, tables, answers
and logs know its name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from appliance.model.ids import ProviderName
from appliance.model.invariants import ensure
from appliance.model.operation import OperationKind

TokenName = NewType("TokenName", str)
"""`tok_` and 26 characters: 128 random bits in base32, lower case."""

NAME_BYTES: Final = 16
TOKEN_CHARACTERS_MAX: Final = 255
_PREFIX: Final = "tok_"
_NAME: Final = re.compile(r"\Atok_[a-z2-7]{26}\Z")


class TokenPurpose(StrEnum):
    """What a token may be used for: taking money at once, or having it held to be captured later."""

    SALE = "sale"
    HOLD = "hold"


PURPOSE_OF: Final[Mapping[OperationKind, TokenPurpose]] = {
    OperationKind.AUTHORISE: TokenPurpose.SALE,
    OperationKind.RESERVE: TokenPurpose.HOLD,
}
"""Operations that a token can begin, and what each needs it for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBinding:
    """What a token is bound to, for as long as it is kept: another binding does not open it.

    Attributes:
        purposes: each once, sorted.
    """

    name: TokenName
    provider: ProviderName
    purposes: tuple[TokenPurpose, ...]

    def __post_init__(self) -> None:
        ensure(self.purposes == tuple(sorted(set(self.purposes))) != (), "purposes are sorted, each once, never none")


def is_token_name(source: str) -> bool:
    """Whether a tender's source names a token in the vault."""
    return _NAME.match(source) is not None


def token_name(octets: bytes) -> TokenName:
    """The name made of 16 random bytes."""
    ensure(len(octets) == NAME_BYTES, f"a token's name stands for {NAME_BYTES} random bytes")
    return TokenName(_PREFIX + base64.b32encode(octets).decode().rstrip("=").lower())
