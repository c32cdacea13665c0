"""The appliance with a provider in memory that takes 50 ms: `python -m tests.bench.slow_provider --config FILE`.

A source named `lost` gives an answer that tells nothing, and reading back tells nothing either, so such a payment stays
"being checked". Everything else is the appliance as it is; a device never runs this.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from appliance.__main__ import main
from appliance.config.schema import Settings
from appliance.ledger.ledger import Ledger
from appliance.model.ids import ProviderKey, ProviderName, ProviderReference
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.sale import TenderKind
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.wiring import box
from appliance.wiring.opening import Opened

ANSWER_S: Final = 0.05
LOST: Final = "lost"


class SlowProvider:
    """`ports/provider.py`, as far as sales go."""

    async def authorise(self, operation: port.Authorise) -> port.Answer:
        await asyncio.sleep(ANSWER_S)
        if operation.source == LOST:
            return port.Unknown(reason="connection_lost")
        reference = ProviderReference(operation.provider_key)
        return port.Confirmed(
            provider_reference=reference, amount=operation.amount, confirmed_ms=time.time_ns() // 1_000_000
        )

    async def refund(self, operation: port.Refund) -> port.Answer:
        return port.Unknown(reason="not_measured")

    def patience_ms(self, operation: port.Operation) -> int:
        return 10_000

    def give_up(self, provider_key: ProviderKey) -> None:
        return

    def hurry(self, reference: ProviderReference) -> bool:
        return False

    async def find(
        self, operation: port.Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> port.Found | port.Absent | port.Unknown:
        return port.Unknown(reason="connection_lost")

    async def close(self) -> None:
        return


async def open_slow_providers(_settings: Settings, _ledger: Ledger, _clock: Clock) -> dict[ProviderName, Opened]:
    """In place of those that the settings name."""
    return {FIRST_PROVIDER: Opened(tender=TenderKind.CARD, provider=SlowProvider())}


if __name__ == "__main__":
    # The one seam of the composition root: it calls `open_providers` by this name.
    vars(box)["open_providers"] = open_slow_providers
    sys.exit(main())
