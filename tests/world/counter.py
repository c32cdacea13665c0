"""The box's side of the counter in a world: drawers, X and Z, the shop's day, as `wiring/till.py` builds them."""

from __future__ import annotations

from typing import Final, Self
from zoneinfo import ZoneInfo

from appliance.device.admission import Quarantine
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.model.shop_day import ShopCalendar
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.till.days import ShopDays
from appliance.till.drawers import Drawers
from appliance.till.reports import Reports
from appliance.till.vouchers import Vouchers
from tests.fakes.sealer import unattested

CALENDAR: Final = ShopCalendar(zone=ZoneInfo("Europe/Berlin"), cut_off="04:00")


class Counter:
    """What a shop's till is beside payments."""

    def __init__(self, *, drawers: Drawers, reports: Reports, vouchers: Vouchers, days: ShopDays) -> None:
        self.drawers = drawers
        self.reports = reports
        self.vouchers = vouchers
        self.days = days

    @classmethod
    def build(
        cls,
        *,
        authenticate: Authenticate,
        admission: Admission,
        quarantine: Quarantine,
        ledger: Ledger,
        clock: Clock,
        log: Log,
        currency: str,
    ) -> Self:
        return cls(
            drawers=Drawers(
                authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=currency
            ),
            reports=Reports(
                authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=currency
            ),
            vouchers=Vouchers(
                authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency=currency
            ),
            days=ShopDays(
                ledger=ledger,
                clock=clock,
                log=log,
                calendar=CALENDAR,
                currency=currency,
                quarantine=lambda: quarantine.reason,
                attested=unattested,
            ),
        )
