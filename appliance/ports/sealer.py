"""What boot needs from the platform's root of trust."""

from __future__ import annotations

from typing import Protocol


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

    async def quote(self, nonce: bytes) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over the PCR selection of the policy, for `nonce` (8 to 64 bytes)."""
        ...
