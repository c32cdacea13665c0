"""Builds screening: the model, the judge, its finding, its routes behind the local door."""

from __future__ import annotations

import asyncio
from zoneinfo import ZoneInfo

from appliance.api.local.screening import ScreeningRoutes
from appliance.config.schema import Settings
from appliance.device.health import Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.payment.screening.changes import Thresholds
from appliance.payment.screening.judge import Screener
from appliance.payment.screening.trees import Model, load_model
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics


class ScreeningParts:
    """Screening as the box uses it; without a model the rules still work."""

    def __init__(self, *, settings: Settings, ledger: Ledger, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._model: Model | None = None
        self._trouble = ""
        self.screener = Screener(
            settings=settings.screening,
            zone=ZoneInfo(settings.shop.timezone),
            ledger=ledger,
            clock=clock,
            count=metrics.screened,
        )
        self._thresholds = Thresholds(screener=self.screener, ledger=ledger, clock=clock)
        self._ledger, self._clock = ledger, clock

    async def begin(self) -> None:
        """Read model and recent log, before the doors open."""
        try:
            self._model = await asyncio.to_thread(load_model, self._settings.screening.model_path)
        except Rejected as refusal:
            self._log.warning("screening_model.refused", error=refusal)
            self._trouble = refusal.detail
        await self.screener.load(self._model)

    def check(self) -> Finding:
        """A model that is not used is something to look at, not a reason to stop selling."""
        if not self._trouble:
            return Finding(check="screening", level=Level.OK, sentence="Sales and refunds are screened.")
        return Finding(
            check="screening",
            level=Level.COPING,
            sentence="Sales are screened by rules only: the model is not used.",
            next_step=f"Train or copy the model anew, or take screening.model_path out. {self._trouble}.",
        )

    def routes(self) -> ScreeningRoutes:
        """Thresholds and reasons, for the local door."""
        return ScreeningRoutes(thresholds=self._thresholds, ledger=self._ledger, clock=self._clock, model=self._model)
