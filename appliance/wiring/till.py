"""Builds the till: drawers and reports behind the terminals' door, the shop's days behind the local one."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from appliance.api.local.days import DayRoutes
from appliance.config.schema import Settings
from appliance.device.admission import Quarantine
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.model.shop_day import ShopCalendar
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.supervise import Restart, Supervisor
from appliance.till.days import ShopDays
from appliance.till.drawers import Drawers
from appliance.till.reports import Reports


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
        clock: Clock,
        log: Log,
    ) -> None:
        shop = settings.shop
        self.drawers = Drawers(
            authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=shop.currency
        )
        self.reports = Reports(
            authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=shop.currency
        )
        self.days = ShopDays(
            ledger=ledger,
            clock=clock,
            log=log,
            calendar=ShopCalendar(zone=ZoneInfo(shop.timezone), cut_off=shop.day_cutoff),
            currency=shop.currency,
            quarantine=lambda: quarantine.reason,
        )

    async def begin(self, supervisor: Supervisor) -> None:
        """Close the day that ended while the box was off, before anything new is recorded; then each at its cut-off."""
        await self.days.close_due()
        supervisor.start("shop days", self.days.run, restart=Restart.ON_CRASH)

    def routes(self) -> DayRoutes:
        """The shop's day, for the local door."""
        return DayRoutes(self.days)
