"""Builds reconciliation: the provider's statement, the daily look at it, its figures, and what health says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final
from zoneinfo import ZoneInfo

from appliance.adapters.stripe_statement import StripeStatement
from appliance.anchor.follower import Follower, Progress, Schedule, Standing
from appliance.anchor.store import EvidenceStore
from appliance.api.local.reconcile import ReconcileRoutes
from appliance.config.schema import Settings
from appliance.device.admission import Quarantine
from appliance.device.health import Check, Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.model.reconciling import BreakType, FeeRule
from appliance.model.shop_day import ShopCalendar
from appliance.payment.reconcile import Reconciliation
from appliance.payment.reconcile_projection import FIRST_PROVIDER
from appliance.ports.clock import Clock
from appliance.ports.statement import Statement
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.followers import finding_of
from appliance.wiring.opening import stripe_settings
from appliance.wiring.paypal import PAYPAL

NAME: Final = "reconcile"
SCHEDULE: Final = Schedule(every_ms=10 * MINUTE_MS, step_ms_max=10 * MINUTE_MS)
"""How often it is asked whether a day is due."""


class ReconcileParts:
    """Nothing at all where no provider is set up."""

    def __init__(
        self,
        *,
        settings: Settings,
        ledger: Ledger,
        store: EvidenceStore,
        log_origin: str,
        quarantine: Quarantine,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._log_origin = log_origin
        self._quarantine = quarantine
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._working: Reconciliation | None = None
        self._open: dict[str, int] = {}
        self._follower = Follower(
            name=NAME,
            step=self._step,
            schedule=SCHEDULE,
            store=store,
            newest=lambda: ledger.head.size,
            clock=clock,
            metrics=metrics,
            log=log,
            jitter=random.SystemRandom(),
        )

    def begin(self, supervisor: Supervisor) -> None:
        """Start the daily look; nothing waits for it."""
        if self._settings.provider.stripe is not None:
            supervisor.start("reconcile follower", self._run, restart=Restart.ON_CRASH)

    def routes(self) -> ReconcileRoutes:
        """For the local door."""
        return ReconcileRoutes(self._reconciliation, not_compared=self._not_compared)

    @property
    def checks(self) -> Sequence[Check]:
        """How the look is, and what it found."""
        if self._settings.provider.stripe is None:
            return ()
        return (lambda: reconcile_finding(self._follower.standing, self._open, self._not_compared),)

    @property
    def _not_compared(self) -> tuple[str, ...]:
        return () if self._settings.provider.paypal is None else (PAYPAL,)

    def _reconciliation(self) -> Reconciliation:
        reason = self._quarantine.reason
        if reason is not None:
            raise Unavailable("quarantined", reason)
        if self._working is None:
            raise Unavailable("statement_missing", "no card provider is set up, or it is being opened still")
        return self._working

    async def _run(self) -> None:
        stripe = self._settings.provider.stripe
        if stripe is None:
            return
        statement = await StripeStatement.open(settings=stripe_settings(stripe), clock=self._clock)
        try:
            self._working = self._make(statement)
            await self._follower.run()
        finally:
            self._working = None
            await statement.close()

    def _make(self, statement: Statement) -> Reconciliation:
        shop, rule = self._settings.shop, self._settings.reconciliation
        return Reconciliation(
            ledger=self._ledger,
            statement=statement,
            clock=self._clock,
            log=self._log,
            calendar=ShopCalendar(zone=ZoneInfo(shop.timezone), cut_off=shop.day_cutoff),
            provider=FIRST_PROVIDER,
            log_origin=self._log_origin,
            currency=shop.currency,
            fee=FeeRule(
                basis_points_max=rule.fee_basis_points_max,
                fixed_minor_max=rule.fee_fixed_minor_max,
            ),
        )

    async def _step(self) -> Progress:
        await self._reconciliation().run_due()
        await self._tell()
        return Progress(size=self._ledger.head.size)

    async def _tell(self) -> None:
        self._open = await self._reconciliation().open_by_type()
        for kind in BreakType:
            self._metrics.breaks_open(FIRST_PROVIDER, kind, self._open.get(kind, 0))


def reconcile_finding(standing: Standing, open_by_type: dict[str, int], not_compared: tuple[str, ...] = ()) -> Finding:
    """In plain words; no break stops a sale."""
    but = f" Not compared: {', '.join(not_compared)}." if not_compared else ""
    if standing.failures:
        return finding_of(standing)
    count = sum(open_by_type.values())
    if not count:
        return Finding(check=NAME, level=Level.OK, sentence=f"Card money: nothing is open beside the statement.{but}")
    told = ", ".join(f"{kind.replace('_', ' ')} {number}" for kind, number in sorted(open_by_type.items()))
    return Finding(
        check=NAME,
        level=Level.COPING,
        sentence=f"Card money differs from the provider's statement: {told}; we sell on.{but}",
        next_step="tillstone reconcile says what to do about each.",
    )
