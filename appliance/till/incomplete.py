"""Watches what sales wait for: the rest of their money, which somebody has to take, or their provider's word."""

from __future__ import annotations

from typing import Final

from appliance.ledger.ledger import Ledger
from appliance.model.till import Scope
from appliance.payment.operation_records import open_counts
from appliance.ports.clock import Clock
from appliance.till.part_totals import read_incomplete

EVERY_MS: Final = 5_000


class IncompleteSales:
    """One service.

    Attributes:
        count: sales that keep money and are not complete, as of the last look.
        checked_count: operations whose provider did not say yet how they ended.
    """

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.count = 0
        self.checked_count = 0

    async def run(self) -> None:
        """Look again and again."""
        while True:
            self.count, _ = await self._ledger.read(lambda connection: read_incomplete(connection, Scope.SHOP, ""))
            self.checked_count = sum((await self._ledger.read(open_counts)).values())
            await self._clock.sleep(EVERY_MS)
