"""The home of the log's two keys in a world: real keys in memory that take their time, or are away."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.crypto.signing_key import SigningKey
from appliance.model.errors import Unavailable
from tests.world.loop import WorldClock


@dataclass(slots=True, kw_only=True)
class Token:
    """The state of the two keys' home: `is_away` for a while, or slow."""

    is_away: bool = False
    delay_ms: int = 5


class SlowSigner:
    """Satisfies `ports/signer.py`: a real key that takes its time and may be away."""

    def __init__(self, key: SigningKey, token: Token, clock: WorldClock) -> None:
        self._key = key
        self._token = token
        self._clock = clock
        self.algorithm = key.algorithm
        self.public_key = key.public_key
        self.key_id = key.key_id

    async def sign(self, message: bytes) -> bytes:
        await self._clock.sleep(self._token.delay_ms)
        if self._token.is_away:
            raise Unavailable("token_away", "the world took the token away")
        return self._key.sign(message)
