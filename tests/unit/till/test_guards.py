"""A report that was overtaken is not written: whoever read it first has to read again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from appliance.ledger.guard import Guard
from appliance.model.errors import Rejected
from appliance.model.ids import DrawerId, TerminalId, request_key
from appliance.model.till import DrawerAct, Scope
from appliance.payment.guards import unused
from appliance.till.guards import PERIOD_CHANGED, DayUnchanged, DrawerActAllowed, PeriodUnchanged
from appliance.till.records import last_change, open_day
from tests.unit.payment.shop import Shop, open_shop
from tests.unit.till.acts import act, cash, pay


async def code_of(shop: Shop, guard: Guard) -> str:
    """What the guard says now; empty when it lets the append pass."""

    def check(connection: sqlite3.Connection) -> str:
        try:
            guard.check(connection)
        except Rejected as refusal:
            return refusal.code
        return ""

    return await shop.ledger.read(check)


@pytest.mark.parametrize(("scope", "name"), [(Scope.DRAWER, "till-1"), (Scope.TERMINAL, "till-1")])
async def test_period_that_a_sale_overtook_is_read_again(tmp_path: Path, scope: Scope, name: str) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        await act(shop, "float", 5_000)
        last = await shop.ledger.read(lambda connection: last_change(connection, scope, name))
        fresh = unused(request_key(shop.new_key()))
        guard = PeriodUnchanged(fresh=fresh, scope=scope, name=name, last=last)
        await pay(shop, cash(100), terminal="till-2")
        assert await code_of(shop, guard) == "", "another till's sale is none of its business"
        await pay(shop, cash(100))
        assert await code_of(shop, guard) == PERIOD_CHANGED


async def test_day_that_a_sale_overtook_is_read_again(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await pay(shop, cash(100))
        guard = DayUnchanged(day="2026-09-21", last=(await shop.ledger.read(open_day)).last)
        assert await code_of(shop, guard) == ""
        await pay(shop, cash(100))
        assert await code_of(shop, guard) == PERIOD_CHANGED


async def test_day_that_somebody_else_closed_is_not_closed_again(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await pay(shop, cash(100))
        closed = await shop.days.close()
        guard = DayUnchanged(day=closed.day.day, last=(await shop.ledger.read(open_day)).last)
        assert await code_of(shop, guard) == PERIOD_CHANGED


@pytest.mark.parametrize("kind", [DrawerAct.COUNT, DrawerAct.FLOAT])
async def test_drawer_that_the_terminal_left_meanwhile_is_looked_up_again(tmp_path: Path, kind: DrawerAct) -> None:
    async with open_shop(tmp_path) as shop:
        guard = DrawerActAllowed(
            fresh=unused(request_key(shop.new_key())),
            act=kind,
            is_chosen=False,
            terminal=TerminalId("till-1"),
            drawer=DrawerId("till-1"),
            amount_minor=0,
        )
        assert await code_of(shop, guard) == ""
        await act(shop, "float", drawer="bar")
        assert await code_of(shop, guard) == PERIOD_CHANGED


async def test_key_that_was_used_is_told_in_the_writers_transaction(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        drawers, payments = shop.new_key(), shop.new_key()
        await act(shop, "no_sale", key=drawers)
        await pay(shop, cash(100), key=payments)
        for key in (drawers, payments):
            assert await code_of(shop, unused(request_key(key))) == "key_used"
