"""However wrong the box's clock was at an intent, a card that was charged is never proven "not charged"."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.model.limits import DAY_MS, PROVIDER_DEADLINE_MS
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop

WRONG_MS = st.integers(-40 * DAY_MS, 40 * DAY_MS)
STEPS = st.lists(st.tuples(WRONG_MS, st.integers(0, 5 * DAY_MS), st.booleans()), min_size=1, max_size=4)
SALE: dict[str, Any] = {"currency": "EUR", "amount_minor": 700, "tenders": [{"kind": "card", "amount_minor": 700}]}


async def settle(shop: Shop) -> None:
    """As `Shop.settle`, for as long as proving an absence takes."""
    await shop.works_done()
    for _ in range(40):
        await shop.resolver.look()
        shop.clock.pass_time(PROVIDER_DEADLINE_MS // 2)


async def live(steps: list[tuple[int, int, bool]]) -> None:
    """Sales under wrong clocks, of which the last one's answer is lost; the clock is right when it is looked for."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_shop(Path(folder) / "ledger") as shop:
            shop.clock.pass_time(45 * DAY_MS)  # the log began when its clock was right
            for wrong_ms, passed_ms, is_charged in steps:
                shop.clock.step(wrong_ms)
                shop.provider.strike(Switch.FAIL_AFTER if is_charged else Switch.FAIL_BEFORE)
                await shop.pipeline.pay(shop.request("payment", SALE))
                await shop.works_done()
                shop.clock.step(-wrong_ms)
                shop.clock.pass_time(passed_ms)
            await settle(shop)
            states = [state for (state,) in await shop.rows("SELECT state FROM payments ORDER BY first")]
            assert states == ["approved" if is_charged else "not_charged" for _, _, is_charged in steps]


@given(steps=STEPS)
@example(steps=[(30 * DAY_MS, 3 * DAY_MS, True)])
@example(steps=[(-30 * DAY_MS, 0, True), (30 * DAY_MS, 3 * DAY_MS, True)])
@settings(max_examples=15, deadline=None)
def test_a_charge_is_found_whatever_the_clock_said_at_its_intent(steps: list[tuple[int, int, bool]]) -> None:
    asyncio.run(live(steps))
