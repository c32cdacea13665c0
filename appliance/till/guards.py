"""Conditions of the till's entries, in the transaction that writes them; a refusal writes nothing.

A period's report is read first and written afterwards: the guard sees that nothing changed in between, so what the
entry says is what the tables say in that very transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.ledger.guard import KeysUnused
from appliance.model.errors import Rejected
from appliance.model.ids import DrawerId, TerminalId
from appliance.model.limits import DRAWERS_MAX
from appliance.model.till import DrawerAct, Scope
from appliance.model.voucher import VoucherId
from appliance.payment.voucher_rows import require_voucher
from appliance.till.projection import drawer_holds, drawer_of
from appliance.till.records import closing_of, day_entry, last_change, open_day

PERIOD_CHANGED: Final = "period_changed"
"""Something came between reading and writing: read again. Nobody outside hears this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawerActAllowed:
    """The key is fresh, the terminal still uses this drawer (or chooses it), and what is taken out is there."""

    fresh: KeysUnused
    act: DrawerAct
    terminal: TerminalId
    drawer: DrawerId
    is_chosen: bool
    amount_minor: int

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        if self.act is DrawerAct.FLOAT:
            _require_room(connection, self.drawer)
        if not self.is_chosen and drawer_of(connection, self.terminal) != self.drawer:
            raise Rejected(PERIOD_CHANGED, "the terminal uses another drawer by now")
        held = drawer_holds(connection, self.drawer)
        if self.act is DrawerAct.PAID_OUT and self.amount_minor > held:
            raise Rejected(
                "drawer_short", f"drawer {self.drawer} holds {held} minor units by the log, saw {self.amount_minor}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherUntouched:
    """The key is fresh, and all of the voucher is there: it may be taken back."""

    fresh: KeysUnused
    voucher: VoucherId

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        standing = require_voucher(connection, self.voucher)
        if standing.is_void:
            raise Rejected("voucher_void", "the voucher was taken back before")
        if standing.left_minor != standing.amount_minor:
            raise Rejected("voucher_spent", "a part of the voucher was spent: it is not taken back")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodUnchanged:
    """The key is fresh, the period has something in it, and nothing changed since `last`."""

    fresh: KeysUnused
    scope: Scope
    name: str
    last: int

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        last = last_change(connection, self.scope, self.name)
        if last == closing_of(connection, self.scope, self.name)[1]:
            raise Rejected("period_empty", f"nothing happened to {self.scope} {self.name} since it was closed last")
        if last != self.last:
            raise Rejected(PERIOD_CHANGED, "something was recorded meanwhile")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUnchanged:
    """The day of that date is not closed, and nothing was recorded since `last`."""

    day: str
    last: int

    def check(self, connection: sqlite3.Connection) -> None:
        if open_day(connection).last != self.last or day_entry(connection, self.day) is not None:
            raise Rejected(PERIOD_CHANGED, "something was recorded meanwhile")


def _require_room(connection: sqlite3.Connection, drawer: DrawerId) -> None:
    names = {name for (name,) in connection.execute("SELECT DISTINCT drawer FROM till_totals")}
    if drawer not in names and len(names) >= DRAWERS_MAX:
        raise Rejected("too_many_drawers", f"expected at most {DRAWERS_MAX} drawers, and {drawer} would be one more")
