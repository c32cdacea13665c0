"""A PIN pad whose last payment is read first, and that takes cards offline: what is reserved, held, written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId
from appliance.model.offline import OfflineLimits
from appliance.payment.device_log import begun_after, last_name_before
from appliance.payment.offline_records import exposure
from appliance.ports.provider import NotSent
from tests.fakes.clock import FakeClock
from tests.fakes.provider import Switch
from tests.fakes.read_first import FakeReadFirst
from tests.unit.payment.counter import PIN_PAD
from tests.unit.payment.shop import Shop, open_shop, rebuilt_equal

LIMITS = OfflineLimits(sale_minor_max=5_000, terminal_minor_max=8_000, box_minor_max=10_000, age_hours_max=24)


@pytest.fixture
def pads() -> FakeReadFirst:
    return FakeReadFirst(clock=FakeClock())


@pytest.fixture
async def shop(tmp_path: Path, pads: FakeReadFirst) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, clock=pads.fake_clock, pads=pads, limits=LIMITS) as opened:
        yield opened
        await opened.works_done()
        await rebuilt_equal(opened)


async def sell(shop: Shop, minor: int = 5_000, **tender: Any) -> str:
    key = shop.new_key()
    tenders = [{"kind": "pin_pad", "amount_minor": minor, **tender}]
    body = {"currency": "EUR", "amount_minor": minor, "tenders": tenders}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    return key


async def state(shop: Shop, key: str) -> tuple[str, str | None]:
    answer = await shop.pipeline.status(shop.request("status", {"of": key}))
    return answer.state, answer.code


async def test_the_name_that_was_read_is_durable_before_the_card_is_asked_for(shop: Shop, pads: FakeReadFirst) -> None:
    key = await sell(shop)
    assert await state(shop, key) == ("approved", None)
    rows = await shop.rows("SELECT kind, state, target, reference, source FROM operations ORDER BY id")
    (offer, taken) = rows
    assert offer == ("offer", "confirmed", None, "counter/1", "counter")
    assert taken[:3] == ("authorise", "confirmed", "counter/1")
    assert taken[4] == "counter"


async def test_a_reservation_is_held_once_and_freed_whatever_the_end(shop: Shop, pads: FakeReadFirst) -> None:
    pads.made = NotSent(reason="pad_silent")
    assert await state(shop, await sell(shop)) == ("not_charged", "provider_unreachable")
    pads.made = None
    await sell(shop)  # its bank answers
    found = await shop.ledger.read(exposure)
    assert (found.reserved_minor, found.accepted_minor) == (0, 0)
    pads.is_bank_down = True
    first = await sell(shop)
    assert await state(shop, first) == ("accepted_offline", None)
    found = await shop.ledger.read(exposure)
    assert (found.reserved_minor, found.accepted_minor) == (0, 5_000)
    assert (await state(shop, await sell(shop)))[0] == "declined"  # the till's limit leaves 30.00
    pads.is_bank_down = False
    await shop.forwarder.look()
    assert await state(shop, first) == ("approved", None)


async def test_a_pin_pad_is_held_until_the_card_has_its_end(shop: Shop, pads: FakeReadFirst) -> None:
    pads.holds_card = True
    key = shop.new_key()
    body = {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": "pin_pad", "amount_minor": 500}]}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await pads.asked_for_card.wait()
    with pytest.raises(Unavailable, match="reader_busy"):
        await sell(shop)
    pads.release_card()
    await shop.works_done()
    pads.holds_card = False
    await sell(shop)


async def test_another_tills_pin_pad_is_refused(shop: Shop) -> None:
    with pytest.raises(Rejected, match="reader_not_bound"):
        await sell(shop, source="bar")


async def test_the_log_tells_what_was_named_before_and_begun_after(shop: Shop) -> None:
    first, second = await sell(shop), await sell(shop)
    await shop.pipeline.refund(shop.request("refund", {"of": first, "amount_minor": 100}))
    await shop.works_done()
    taken, refund = f"{first}/1", f"{first}/2"

    async def after(operation: str) -> Any:
        return await shop.ledger.read(lambda found: begun_after(found, PIN_PAD, "counter", OperationId(operation)))

    async def before(operation: str) -> Any:
        name = OperationId(operation)
        return await shop.ledger.read(lambda found: last_name_before(found, PIN_PAD, "counter", name))

    assert (await after(taken))[0] == "authorise"
    assert (await after(f"{second}/1"))[0] == "refund"
    assert await after(refund) is None
    assert await after("of-a-lost-box/1") == ("authorise", "counter/1")
    (reference,) = (await shop.rows(f"SELECT reference FROM operations WHERE id = '{second}/1'"))[0]
    assert await before(refund) == reference
    assert await before(f"{first}/0") is None


async def test_a_forward_of_an_old_payment_is_no_newer_name(shop: Shop, pads: FakeReadFirst) -> None:
    pads.is_bank_down = True
    await sell(shop, 1_000)
    pads.is_bank_down = False
    newest = await sell(shop, 1_000)
    await shop.forwarder.look()
    await shop.works_done()
    await shop.pipeline.refund(shop.request("refund", {"of": newest, "amount_minor": 100}))
    await shop.works_done()
    name = OperationId(f"{newest}/2")
    before = await shop.ledger.read(lambda found: last_name_before(found, PIN_PAD, "counter", name))
    (reference,) = (await shop.rows(f"SELECT reference FROM operations WHERE id = '{newest}/1'"))[0]
    assert before == reference


async def test_a_listing_of_cards_begins_before_a_card_and_not_before_a_pin_pads_sale(
    shop: Shop, pads: FakeReadFirst
) -> None:
    """A charge of another provider bears another clock, and that provider may be away when this one is asked."""
    await sell(shop)
    pads.is_reading_down = True
    shop.provider.strike(Switch.FAIL_AFTER)
    key = shop.new_key()
    body = {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": "card", "amount_minor": 500}]}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    await shop.settle()
    assert await state(shop, key) == ("approved", None)
