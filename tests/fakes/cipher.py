"""The HSM's cipher without an HSM: AES-256-GCM under a key in memory, with switches to be away and to hang."""

from __future__ import annotations

import os

from appliance.crypto.disclosure import open_value, seal_value
from appliance.model.errors import Corrupt, Unavailable


class FakeCipher:
    """Satisfies `EnvelopeCipher` of crypto/envelope.py.

    Attributes:
        is_there: False: the token was pulled out.
        asked: how often a blob was opened.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(32) if key is None else key
        self.is_there = True
        self.asked = 0

    async def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        self._require()
        return seal_value(self._key, aad, plaintext)

    async def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        self._require()
        self.asked += 1
        try:
            return open_value(self._key, aad, blob)
        except Corrupt as cause:
            raise Corrupt("hsm_blob_refused", "not what was wrapped") from cause

    def _require(self) -> None:
        if not self.is_there:
            raise Unavailable("hsm_away", "the token does not answer")
