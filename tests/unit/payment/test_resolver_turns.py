"""Every open operation has its turn, whether many wait for ever or one of them cannot be read at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.payment import resolve
from appliance.ports.provider import Absent, Found, Unknown
from tests.fakes.provider import Switch
from tests.unit.payment.shop import SETTLE_MS, Shop, open_shop, rebuilt_equal


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened
        await opened.works_done()
        await rebuilt_equal(opened)


async def lost(shop: Shop) -> str:
    """A card was charged, and the answer is lost."""
    shop.provider.strike(Switch.FAIL_AFTER)
    key = shop.new_key()
    body = {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": "card", "amount_minor": 500}]}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    return key


async def state(shop: Shop, key: str) -> str:
    return (await shop.pipeline.status(shop.request("status", {"of": key}))).state


def unreadable(shop: Shop, monkeypatch: pytest.MonkeyPatch, keys: list[str], answer: Unknown | Exception) -> None:
    """What became of these payments nobody tells."""
    right = shop.provider.find

    async def find(operation: Any, **more: Any) -> Found | Absent | Unknown:
        if str(operation.reference.payment_key) not in keys:
            return await right(operation, **more)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(shop.provider, "find", find)


async def test_many_that_wait_for_ever_hide_none_behind_them(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "BATCH", 2)
    stuck = [await lost(shop) for _ in range(5)]
    unreadable(shop, monkeypatch, stuck, Unknown(reason="order_gone"))
    told = await lost(shop)
    for _ in range(4):
        await shop.resolver.look()
        await shop.works_done()
        shop.clock.pass_time(2 * SETTLE_MS)
    assert await state(shop, told) == "approved"
    assert {await state(shop, key) for key in stuck} == {"being_checked"}
    monkeypatch.undo()
    await shop.settle()


async def test_absence_is_proven_also_of_what_has_its_turn_seldom(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "BATCH", 2)
    stuck = [await lost(shop) for _ in range(5)]
    unreadable(shop, monkeypatch, stuck, Unknown(reason="order_gone"))
    shop.provider.strike(Switch.FAIL_BEFORE)
    key = shop.new_key()
    body = {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": "card", "amount_minor": 500}]}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    for _ in range(16):
        await shop.resolver.look()
        await shop.works_done()
        shop.clock.pass_time(2 * SETTLE_MS)
    assert await state(shop, key) == "not_charged"
    monkeypatch.undo()
    await shop.settle()


async def test_one_that_nobody_can_read_keeps_no_other_from_its_turn(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await lost(shop)
    told = await lost(shop)
    unreadable(shop, monkeypatch, [stuck], ArithmeticError("nobody thought of this"))
    with pytest.raises(ArithmeticError):
        await shop.resolver.look()
    await shop.resolver.look()  # the supervisor began it again
    await shop.works_done()
    assert await state(shop, told) == "approved"
    assert await state(shop, stuck) == "being_checked"
    monkeypatch.undo()
    await shop.settle()


async def test_a_provider_that_hangs_takes_a_round_one_deadline(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [await lost(shop) for _ in range(4)]
    asked: list[Any] = []
    right = shop.provider.find

    async def hang(operation: Any, **_: Any) -> Found | Absent | Unknown:
        asked.append(operation)
        raise TimeoutError

    monkeypatch.setattr(shop.provider, "find", hang)
    await shop.resolver.look()
    assert len(asked) == 1
    monkeypatch.setattr(shop.provider, "find", right)
    await shop.resolver.look()
    await shop.works_done()
    assert sorted([await state(shop, key) for key in keys]) == ["approved"] * 3 + ["being_checked"]  # that one rests
    await shop.settle()
