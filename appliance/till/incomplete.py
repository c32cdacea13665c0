"""Watches how many sales keep money and are not complete: somebody has to take the rest, or to give them up."""

from __future__ import annotations

from typing import Final

from appliance.ledger.ledger import Ledger
from appliance.model.till import Scope
from appliance.ports.clock import Clock
from appliance.till.part_totals import read_incomplete

EVERY_MS: Final = 5_000


class IncompleteSales:
    """One service. Attributes: `count`, as of the last look."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.count = 0

    async def run(self) -> None:
        """Look again and again."""
        while True:
            self.count, _ = await self._ledger.read(lambda connection: read_incomplete(connection, Scope.SHOP, ""))
            await self._clock.sleep(EVERY_MS)
