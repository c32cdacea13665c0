"""A new epoch begins every hour, and soon after a day was closed."""

from __future__ import annotations

from pathlib import Path

from appliance.device.admission import Quarantine
from appliance.device.boot import renew_epochs
from appliance.device.epochs import EpochProjection
from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.runtime.supervise import supervised
from tests.fakes.clock import FakeClock
from tests.fakes.sealer import FakeSealer
from tests.unit.ledger.shop import open_ledger, running
from tests.unit.runtime.lines import Lines


async def test_epoch_follows_a_closed_day_within_a_minute_and_else_comes_hourly(tmp_path: Path) -> None:
    clock, log, sealer = FakeClock(), Lines().log, FakeSealer()
    days_closed = 0
    async with (
        running(await open_ledger(tmp_path, clock=clock, projections=(EpochProjection(),))) as ledger,
        supervised(log=log, clock=clock) as supervisor,
    ):
        supervisor.start(
            "epochs",
            lambda: renew_epochs(
                ledger=ledger,
                sealer=sealer,
                quarantine=Quarantine(),
                clock=clock,
                log=log,
                days_closed=lambda: days_closed,
            ),
        )

        async def passes(duration_ms: int) -> int:
            """The TPM's counter once the service sleeps again."""
            await clock.advance(duration_ms)
            while clock.sleeper_count == 0:
                await clock.settle()
            return await sealer.epoch()

        before = await passes(59 * MINUTE_MS)
        assert await passes(MINUTE_MS) == before + 1
        days_closed = 1
        assert await passes(MINUTE_MS) == before + 2
        assert await passes(HOUR_MS - MINUTE_MS) == before + 2
        supervisor.stop("the test is over")
