"""Beside a bank that is asked later, or that said no: whoever stops the payment moves money once, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.ledger.head import SigningLag
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import DAY_MS
from appliance.model.offline import Exposure
from tests.fakes.forwards import FakeForwards
from tests.fakes.provider import Switch
from tests.fakes.read_first import FakeReadFirst
from tests.unit.payment import offline
from tests.unit.payment.offline import Till, open_till


@pytest.fixture(autouse=True, params=[FakeForwards, FakeReadFirst])
def pads_are(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds at both kinds of device."""
    monkeypatch.setattr(offline, "PADS_ARE", request.param)


async def abort(till: Till, key: str) -> str:
    """The code of what it came to; empty where it was taken."""
    try:
        await till.shop.pipeline.abort(till.shop.request("abort", {"of": key}))
    except Rejected as refusal:
        return refusal.code
    return ""


async def back(till: Till) -> list[tuple[int, ...]]:
    """Cash and card that went back of each payment."""
    return await till.shop.rows("SELECT cash_back, card_back FROM payments ORDER BY first")


async def test_an_abort_while_a_bank_is_asked_changes_nothing(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000, cash=500)).key
        till.pads.is_bank_down = False
        till.pads.strike(Switch.HANG_AFTER)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(till.shop.forwarder.look())
            await till.pads.is_forwarding.wait()
            assert await abort(till, key) == "payment_complete"
            till.pads.let_go()
            await asking
        await till.shop.settle()
        assert (await till.status(key)).state == "approved"
        assert (till.pads.charged_minor(), await back(till)) == (2_000, [(0, 0)])


async def test_an_abort_of_a_card_that_was_lost_keeps_and_gives_back_no_cash(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000, cash=500)).key
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        assert await abort(till, key) == "payment_complete"
        assert (await till.status(key)).state == "declined_after_handover"
        assert await back(till) == [(0, 0)]


async def test_of_many_who_stop_a_lost_card_the_cash_beside_it_goes_back_once(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000, cash=500)).key
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        stops = [till.reverse(key) for _ in range(3)]
        await asyncio.gather(till.shop.forwarder.look(), *stops, abort(till, key), return_exceptions=True)
        await till.shop.works_done()
        await till.shop.settle()
        await till.forward()
        await till.shop.settle()
        assert (await till.status(key)).state in ("reversed", "declined_after_handover")
        ((cash, _),) = await back(till)
        assert (till.pads.charged_minor(), cash) == (0, 500)
        assert await till.exposure() == Exposure()


async def test_a_reversal_that_races_the_bank_leaves_no_money(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(2_000, cash=500)).key
        till.pads.is_bank_down = False
        await asyncio.gather(till.shop.forwarder.look(), till.reverse(key), till.shop.resolver.look())
        await till.shop.works_done()
        await till.shop.settle()
        assert (await till.status(key)).state == "reversed"
        assert till.pads.charged_minor() == 0
        ((cash, _),) = await back(till)
        assert cash == 500
        keys = [each.provider_key for each in till.pads.asked]
        assert len(set(keys)) == len(keys)


async def test_banks_are_asked_while_no_head_is_signed_and_nothing_new_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_till(tmp_path) as till:
        keys = [(await till.sell(minor)).key for minor in (1_000, 2_000)]
        till.pads.says_no.add(till.reference())
        monkeypatch.setattr(Ledger, "signing_lag", SigningLag(entries=200_000, age_ms=2 * DAY_MS))
        with pytest.raises(Unavailable, match="signing_down"):
            await till.sell(1_000)
        assert (await till.exposure()).exposed_minor == 3_000  # nothing was reserved for it
        till.pads.is_bank_down = False
        await till.forward()
        assert [(await till.status(key)).state for key in keys] == ["approved", "declined_after_handover"]
        assert await till.exposure() == Exposure()
