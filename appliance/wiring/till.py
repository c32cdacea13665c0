"""Builds the till: drawers, vouchers and reports behind the terminals' door, the shop's days behind the local one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from zoneinfo import ZoneInfo

from appliance.anchor.store import EvidenceStore
from appliance.api.local.days import DayRoutes
from appliance.config.schema import Settings
from appliance.device.admission import Quarantine
from appliance.device.health import Check, Finding, Level
from appliance.identity.authenticate import Authenticate
from appliance.ledger.draft import Draft
from appliance.ledger.ledger import Ledger
from appliance.model.shop_day import ShopCalendar
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.till.days import ShopDays
from appliance.till.drawers import Drawers
from appliance.till.incomplete import IncompleteSales
from appliance.till.reports import Reports
from appliance.till.vouchers import Vouchers
from appliance.wiring.escrow import escrow_finding
from appliance.wiring.reconciling import ReconcileParts


class TillParts:
    """What a shop's till is beside payments."""

    def __init__(
        self,
        *,
        settings: Settings,
        authenticate: Authenticate,
        admission: Admission,
        quarantine: Quarantine,
        ledger: Ledger,
        store: EvidenceStore,
        log_origin: str,
        clock: Clock,
        attested: Callable[[str], Awaitable[tuple[Draft, ...]]],
        metrics: Metrics,
        log: Log,
    ) -> None:
        shop = settings.shop
        self.reconciling = ReconcileParts(
            settings=settings,
            ledger=ledger,
            store=store,
            log_origin=log_origin,
            quarantine=quarantine,
            clock=clock,
            metrics=metrics,
            log=log,
        )
        self.drawers = Drawers(
            authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=shop.currency
        )
        self.reports = Reports(
            authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=shop.currency
        )
        self.vouchers = Vouchers(
            authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=shop.currency
        )
        self.days = ShopDays(
            ledger=ledger,
            clock=clock,
            log=log,
            calendar=ShopCalendar(zone=ZoneInfo(shop.timezone), cut_off=shop.day_cutoff),
            currency=shop.currency,
            quarantine=lambda: quarantine.reason,
            attested=attested,
        )
        self._incomplete = IncompleteSales(ledger=ledger, clock=clock)
        self.checks: tuple[Check, ...] = (
            *self.reconciling.checks,
            lambda: checked_finding(self._incomplete.checked_count),
            lambda: incomplete_finding(self._incomplete.count),
            lambda: escrow_finding(is_set_up=settings.escrow is not None),
        )

    async def begin(self, supervisor: Supervisor) -> None:
        """Close the day that ended while the box was off, before anything new is recorded; then each at its cut-off."""
        await self.days.close_due()
        supervisor.start("shop days", self.days.run, restart=Restart.ON_CRASH)
        supervisor.start("incomplete sales", self._incomplete.run, restart=Restart.ON_CRASH)
        self.reconciling.begin(supervisor)

    def routes(self) -> DayRoutes:
        """The shop's day, for the local door."""
        return DayRoutes(self.days, self.reconciling.routes())


def checked_finding(count: int) -> Finding:
    """Payments and refunds that are being checked: the box asks until it knows."""
    if not count:
        return Finding(check="payments", level=Level.OK, sentence="No payment or refund is being checked.")
    return Finding(
        check="payments",
        level=Level.OK,
        sentence=f"Payments and refunds that run or are being checked: {count}.",
        next_step="Wait: their providers are asked again by themselves. tillstone close-day --dry-run lists them.",
    )


def incomplete_finding(count: int) -> Finding:
    """Sales that are paid in part only: nothing is wrong with them, and nobody must forget them."""
    if not count:
        return Finding(check="sales", level=Level.OK, sentence="Every sale that took money is complete.")
    return Finding(
        check="sales",
        level=Level.OK,
        sentence=f"Sales that took money and are not complete: {count}.",
        next_step="tillstone close-day --dry-run lists them; take the rest (pay --part-of KEY), or reverse KEY.",
    )
