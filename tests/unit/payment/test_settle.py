"""How soon a charge may be called absent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.config.schema import Limits
from appliance.model.limits import HOUR_MS, PROVIDER_DEADLINE_MS
from tests.fakes.provider import Switch
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
