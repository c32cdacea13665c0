"""Conditions of reconciliation's entries, in the transaction that writes them; a refusal writes nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.model.errors import Rejected
from appliance.payment.reconcile_records import day_entry, newest_day, opened_by

RECONCILED_MEANWHILE: Final = "reconciled_meanwhile"
"""Somebody else's look came between: look again. Nobody outside hears this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayStands:
    """The newest entry about the day is still `entry`, and no later day was looked at."""

    provider: str
    day: str
    entry: int | None

    def check(self, connection: sqlite3.Connection) -> None:
        newest = newest_day(connection, self.provider)
        if day_entry(connection, self.provider, self.day) != self.entry or (
            newest is not None and newest[0] > self.day
        ):
            raise Rejected(RECONCILED_MEANWHILE, "the day was looked at meanwhile")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakIsOpen:
    """This very break is open, since `entry`."""

    provider: str
    subject: str
    type: str
    entry: int | None

    def check(self, connection: sqlite3.Connection) -> None:
        opened = opened_by(connection, self.provider, self.subject, self.type)
        if opened is None or opened != self.entry:
            raise Rejected("break_unknown", f"no break {self.type} of {self.subject} is open")
