"""What was accepted offline: the service that asks the banks, and what health and metrics say of the exposure."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from appliance.config.schema import Settings
from appliance.device.health import Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.model.limits import HOUR_MS
from appliance.model.offline import Exposure
from appliance.payment.follow_up import FollowUp
from appliance.payment.forward import Forwarder
from appliance.payment.offline_records import exposure
from appliance.payment.operate import Operations
from appliance.payment.screening.judge import Screener
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.slip.paper_text import amount

_LOOK_MS: Final = 1_000


class OfflineParts:
    """Runs on every box: what waits is told also where the settings no longer name its provider."""

    def __init__(
        self,
        *,
        settings: Settings,
        ledger: Ledger,
        operations: Operations,
        clock: Clock,
        log: Log,
        metrics: Metrics,
        quarantine: Callable[[], str | None],
        screener: Screener,
    ) -> None:
        self._screener = screener
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._exposure = Exposure()
        self._forwarder = Forwarder(
            ledger=ledger,
            follow_up=FollowUp(ledger=ledger, operations=operations, clock=clock),
            clock=clock,
            log=log,
            jitter=random.SystemRandom(),
            quarantine=quarantine,
        )

    def begin(self, supervisor: Supervisor) -> None:
        """Start what runs; nothing here is waited for."""
        supervisor.start("forwarding", self._forwarder.run, restart=Restart.ON_CRASH)
        supervisor.start("exposure", self._watch, restart=Restart.ON_CRASH)

    def check(self) -> Finding:
        """What health says."""
        return exposure_finding(
            self._exposure,
            currency=self._settings.shop.currency,
            age_hours_max=self._settings.offline.age_hours_max,
            now_ms=self._clock.now_ms(),
        )

    async def _watch(self) -> None:
        while True:
            self._exposure = await self._ledger.read(exposure)
            self._screener.exposed_minor = self._exposure.exposed_minor
            self._metrics.offline(self._exposure, now_ms=self._clock.now_ms())
            await self._clock.sleep(_LOOK_MS)


def exposure_finding(exposure: Exposure, *, currency: str, age_hours_max: int, now_ms: int) -> Finding:
    """How much money hangs on banks that were not asked, and since when."""
    if not exposure.accepted_count:
        return Finding(check="offline", level=Level.OK, sentence="No card waits for its bank.")
    hours = max(now_ms - (exposure.oldest_ms or now_ms), 0) // HOUR_MS
    money = f"{amount(exposure.accepted_minor, currency)} {currency}"
    cards, banks = (
        ("1 card", "its bank") if exposure.accepted_count == 1 else (f"{exposure.accepted_count} cards", "their banks")
    )
    sentence = f"{cards}, {money}, accepted offline and not confirmed by {banks}; the oldest {hours} h ago."
    if hours < age_hours_max:
        return Finding(check="offline", level=Level.OK, sentence=sentence)
    return Finding(
        check="offline",
        level=Level.COPING,
        sentence=f"{sentence} No more cards are accepted offline.",
        next_step="See that the PIN pad reaches its bank: what waits too long is declined by many banks.",
    )
