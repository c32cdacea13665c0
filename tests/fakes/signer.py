"""A signer in memory that fails on demand; verified by the same contract suite as the real ones."""

from __future__ import annotations

import asyncio
from typing import Literal

from appliance.crypto import cose, signing_key
from appliance.model.errors import OutcomeUnknown, Unavailable

Fault = Literal["none", "fail_before", "fail_after", "hang", "lie"]


class FakeSigner:
    """Satisfies `ports/signer.py`.

    Attributes:
        fault: what the next calls do. fail_before: nothing is signed. fail_after: signed, and the answer is lost.
            hang: no answer until `release`, then the outcome is unknown. lie: a signature over something else.
        signed: every message a signature was made for, also when its answer was lost.
    """

    def __init__(self, algorithm: int = cose.ED25519) -> None:
        self._key = signing_key.generate(algorithm)
        self._released = asyncio.Event()
        self.fault: Fault = "none"
        self.signed: list[bytes] = []

    @property
    def algorithm(self) -> int:
        return self._key.algorithm

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    @property
    def key_id(self) -> bytes:
        return self._key.key_id

    def release(self) -> None:
        """End every call that hangs."""
        self._released.set()

    async def sign(self, message: bytes) -> bytes:
        match self.fault:
            case "none":
                return self._made(message)
            case "fail_before":
                raise Unavailable("fake_signer_away", "the fake was told to fail before signing")
            case "fail_after":
                self._made(message)
                raise OutcomeUnknown("fake_signer_lost", "the fake was told to fail after signing")
            case "hang":
                await self._released.wait()
                raise OutcomeUnknown("fake_signer_hung", "the fake was told to hang")
            case "lie":
                return self._key.sign(message + b"\x00")

    def _made(self, message: bytes) -> bytes:
        self.signed.append(message)
        return self._key.sign(message)
