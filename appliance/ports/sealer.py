"""What boot needs from the platform's root of trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.model.trusted_time import PlatformClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What the platform says of its state.

    Attributes:
        attest, signature: TPMS_ATTEST and TPMT_SIGNATURE.
        pcr_values: SHA-256 bank, the values that the quote covers.
    """

    attest: bytes
    signature: bytes
    pcr_values: Mapping[int, bytes]


class Sealer(Protocol):
    """Opens the secret that only a known image may open, and counts epochs that cannot go back."""

    async def unseal(self) -> bytes:
        """The sealed secret (the HSM PIN). Raises Unavailable: device away; Corrupt: the policy refuses."""
        ...

    async def epoch(self) -> int:
        """The value of the monotonic counter."""
        ...

    async def advance_epoch(self) -> int:
        """Increment the counter and return its new value."""
        ...

    async def clock(self) -> PlatformClock:
        """A clock that nobody can set: how long the platform was powered. Raises Unavailable."""
        ...

    async def quote(self, nonce: bytes) -> Quoted:
        """A quote over the PCRs that were chosen when the box was made, for `nonce` (8 to 64 bytes)."""
        ...
