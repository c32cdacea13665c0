"""The appliance with a token that takes 100 ms for each signature: `python -m tests.bench.slow_hsm --config FILE`.

Owns one wrapper around the classical signer. Everything else is the appliance as it is; a device never runs this.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from appliance.__main__ import main
from appliance.config.schema import Settings
from appliance.ledger.head import LogSigners
from appliance.ports.clock import Clock
from appliance.ports.signer import Signer
from appliance.wiring import box
from appliance.wiring.trust import Trust, open_trust

SIGNING_S: Final = 0.1


class SlowSigner:
    """A signer that answers late, as a USB token does."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def algorithm(self) -> int:
        return self._signer.algorithm

    @property
    def public_key(self) -> bytes:
        return self._signer.public_key

    @property
    def key_id(self) -> bytes:
        return self._signer.key_id

    async def sign(self, message: bytes) -> bytes:
        await asyncio.sleep(SIGNING_S)
        return await self._signer.sign(message)


@asynccontextmanager
async def open_slow_trust(settings: Settings, clock: Clock) -> AsyncIterator[Trust]:
    """Phase one as always, with the slow signer in place of the token's."""
    async with open_trust(settings, clock) as trust:
        signers = LogSigners(classical=SlowSigner(trust.signers.classical), post_quantum=trust.signers.post_quantum)
        yield dataclasses.replace(trust, signers=signers, note=signers.classical)


if __name__ == "__main__":
    # The one seam of the composition root: it calls `open_trust` by this name.
    vars(box)["open_trust"] = open_slow_trust
    sys.exit(main())
