"""Bugs of drawers, X and Z, and the shop's day."""

from __future__ import annotations

import sqlite3

from appliance.ledger.draft import RecordedEntry
from appliance.model.operation import OperationKind
from appliance.payment.entry_body import body_of
from appliance.till import guards, projection
from appliance.till.tally import sale_sums
from appliance.wire import entries
from tests.world.bug import bug, put


@bug("Between reading a period and closing it nobody sells.", seed=4)
def close_a_period_as_it_was_read() -> None:
    def fresh_alone(self: guards.PeriodUnchanged, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)

    put(guards.PeriodUnchanged, check=fresh_alone)


@bug("Who closes a day sees what is open.", seed=26)
def close_a_day_as_it_was_read() -> None:
    put(guards.DayUnchanged, check=lambda *_: None)


@bug("Whether the drawer holds as much was seen when the till asked.", seed=2)
def pay_out_of_a_drawer_unguarded() -> None:
    def fresh_alone(self: guards.DrawerActAllowed, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)

    put(guards.DrawerActAllowed, check=fresh_alone)


@bug("A sale is a sale when it is rung up.", seed=1)
def count_a_card_before_its_outcome() -> None:
    right = projection._Folding._intent

    def at_once(self: projection._Folding, entry: RecordedEntry, terminal: str) -> None:
        right(self, entry, terminal)
        body = body_of(entry, entries.IntentEntry)
        if body.sale is not None and body.sale.capture == "at_once":
            self._count(terminal, sale_sums(body.sale))

    confirm = projection._Folding._confirmed

    def counted(
        self: projection._Folding, terminal: str, body: entries.OutcomeEntry, amount: int, sums: bytes | None
    ) -> None:
        confirm(self, terminal, body, amount, None if body.kind == OperationKind.AUTHORISE else sums)

    put(projection._Folding, _intent=at_once, _confirmed=counted)
