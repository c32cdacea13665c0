"""How soon a charge may be called absent."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from appliance.config.schema import Limits
from appliance.ledger.reader import READS_WAITING_MAX
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import DAY_MS, HOUR_MS, PROVIDER_DEADLINE_MS
from appliance.ports.provider import AcceptedOffline, Answer, Authorise, Confirmed, Declined, PartlyConfirmed
from tests.fakes.clock import FakeClock
from tests.fakes.forwards import FakeForwards
from tests.fakes.provider import FakeProvider, Switch
from tests.unit.payment.shop import SETTLE_MS, open_shop


def test_no_shop_may_prove_absence_while_a_request_can_still_be_on_its_way() -> None:
    """Seen with a second of settling and a provider that took six: not_charged, and then a live charge."""
    with pytest.raises(msgspec.ValidationError, match="settle_ms"):
        msgspec.convert({"settle_ms": PROVIDER_DEADLINE_MS - 1}, Limits)
    assert msgspec.convert({"settle_ms": PROVIDER_DEADLINE_MS}, Limits).settle_ms == PROVIDER_DEADLINE_MS


@pytest.mark.parametrize("wrong_ms", [4 * HOUR_MS, -4 * HOUR_MS], ids=["ahead", "behind"])
async def test_a_clock_that_was_set_right_since_moves_no_proof_of_absence(tmp_path: Path, wrong_ms: int) -> None:
    """Ahead: "being checked" for four hours. Behind: the first listing counted while the request was on its way."""
    async with open_shop(tmp_path / "ledger") as shop:
        shop.clock.step(wrong_ms)
        shop.provider.strike(Switch.FAIL_BEFORE)
        sale = {"currency": "EUR", "amount_minor": 700, "tenders": [{"kind": "card", "amount_minor": 700}]}
        await shop.pipeline.pay(shop.request("payment", sale))
        shop.clock.step(-wrong_ms)
        started_ms = shop.clock.monotonic_ms()
        await shop.works_done()
        while await shop.rows("SELECT 1 FROM payments WHERE state = 'being_checked'"):
            await shop.resolver.look()
            shop.clock.pass_time(PROVIDER_DEADLINE_MS // 2)
        assert await shop.rows("SELECT state FROM payments") == [("not_charged",)]
        assert PROVIDER_DEADLINE_MS + SETTLE_MS <= shop.clock.monotonic_ms() - started_ms < HOUR_MS


@pytest.mark.parametrize("wrong_ms", [30 * DAY_MS, -120 * DAY_MS], ids=["ahead", "behind"])
async def test_a_key_that_was_used_under_a_wrong_clock_gets_its_result_when_the_clock_is_right(
    tmp_path: Path, wrong_ms: int
) -> None:
    """Tills date keys by the box's clock; a refusal would say that nothing was charged."""
    async with open_shop(tmp_path / "ledger") as shop:
        shop.clock.step(wrong_ms)
        key, unused = shop.new_key(), shop.new_key()
        sale = {"currency": "EUR", "amount_minor": 700, "tenders": [{"kind": "card", "amount_minor": 700}]}
        cash = {**sale, "tenders": [{"kind": "cash", "amount_minor": 700}]}
        await shop.pipeline.pay(shop.request("payment", sale, key))
        stored = {"key": shop.new_key(), "payment": cash}
        await shop.batch.take(shop.request("batch", {"items": [stored]}))
        await shop.works_done()
        shop.clock.step(-wrong_ms)
        again = await shop.pipeline.pay(shop.request("payment", sale, key))
        assert again.state == "approved"
        batch = await shop.batch.take(shop.request("batch", {"items": [stored, {**stored, "key": unused}]}))
        assert [result.state for result in batch.results] == ["approved", "refused"]
        with pytest.raises(Rejected, match="key_reused"):
            await shop.pipeline.pay(shop.request("payment", cash, key))
        with pytest.raises(Rejected, match="key_from_the_future" if wrong_ms > 0 else "key_too_old"):
            await shop.pipeline.pay(shop.request("payment", sale, unused))
        looked = await shop.pipeline.status(shop.request("status", {"of": key}, unused))
        assert looked.state == "approved"  # a look begins nothing: its key may be of any age
        assert shop.provider.charged_minor() == 700


class GatedProvider(FakeProvider):
    """Answers when the gate is open."""

    def __init__(self, *, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.gate = asyncio.Event()

    async def authorise(self, operation: Authorise) -> Answer:
        await self.gate.wait()
        return await super().authorise(operation)


async def test_an_outcome_is_recorded_however_many_ask_for_a_status(tmp_path: Path) -> None:
    """Seen with 500 tills: the outcome's own look at the ledger was one read too many, and the answer was lost."""
    clock = FakeClock()
    provider, held = GatedProvider(clock=clock), threading.Event()
    async with open_shop(tmp_path / "ledger", clock=clock, asked=provider) as shop:
        sale = {"currency": "EUR", "amount_minor": 700, "tenders": [{"kind": "card", "amount_minor": 700}]}
        first, second = shop.new_key(), shop.new_key()
        provider.gate.set()
        provider.strike(Switch.FAIL_BEFORE)
        await shop.pipeline.pay(shop.request("payment", sale, first))
        await shop.works_done()
        provider.gate.clear()
        await shop.pipeline.pay(shop.request("payment", {**sale, "retry_of": [first]}, second))
        crowd = [asyncio.ensure_future(shop.ledger.read(lambda _: held.wait(30))) for _ in range(READS_WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="ledger_busy"):
            await shop.ledger.read(lambda _: None)
        provider.gate.set()
        await asyncio.sleep(0.05)
        held.set()
        await asyncio.gather(*crowd)
        await shop.works_done()
        assert (await shop.pipeline.status(shop.request("status", {"of": second}))).state == "approved"


class _Bold(FakeForwards):
    """Accepts cards without their bank, whether it may or not."""

    @override
    def _authorise(self, operation: Authorise) -> Confirmed | PartlyConfirmed | AcceptedOffline | Declined:
        return super()._authorise(replace(operation, may_accept_offline=True))


async def test_a_card_accepted_offline_that_nobody_allowed_is_being_checked(tmp_path: Path) -> None:
    clock = FakeClock()
    pads = _Bold(clock=clock)
    pads.is_bank_down = True
    async with open_shop(tmp_path, clock=clock, pads=pads) as shop:
        sale = {"currency": "EUR", "amount_minor": 700, "tenders": [{"kind": "pin_pad", "amount_minor": 700}]}
        await shop.pipeline.pay(shop.request("payment", sale))
        await shop.works_done()
        assert await shop.rows("SELECT state, code FROM payments") == [("being_checked", "accepted_offline_unasked")]
