"""The shared loop: it steps on time, backs off, remembers its last success, and says when somebody must look."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from appliance.anchor.follower import BACK_OFF_MS_MAX, Follower, Progress, Schedule
from appliance.anchor.store import EvidenceStore
from appliance.device.health import Level
from appliance.model.errors import Corrupt, Unavailable
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.wiring.followers import finding_of
from tests.fakes.clock import FakeClock

HOUR_MS = 3_600_000


class Steps:
    """A step that does what it is told next; the last instruction stays."""

    def __init__(self, *results: Progress | Exception) -> None:
        self.results = list(results)
        self.count = 0

    async def __call__(self) -> Progress:
        self.count += 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


class Parts:
    def __init__(self, store: EvidenceStore) -> None:
        self.store = store
        self.clock = FakeClock()
        self.metrics = Metrics()

    def follower(self, step: Steps, **schedule: int) -> Follower:
        return Follower(
            name="witness",
            step=step,
            schedule=Schedule(**{"every_ms": HOUR_MS, **schedule}),
            store=self.store,
            newest=lambda: 10,
            clock=self.clock,
            metrics=self.metrics,
            log=Log(sink=lambda _line: None, clock=self.clock),
            jitter=Random(7),
        )


AWAY = Unavailable("witness_away", "no answer")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = await EvidenceStore.open(tmp_path)
    yield Parts(store)
    await store.close()


async def test_a_step_that_worked_is_followed_by_the_schedules_pause(parts: Parts) -> None:
    follower = parts.follower(Steps(Progress(size=10)))
    assert await follower.step_once() == HOUR_MS
    assert follower.standing.lag_entries == 0


async def test_more_to_do_is_done_at_once(parts: Parts) -> None:
    follower = parts.follower(Steps(Progress(size=4, has_more=True)))
    assert await follower.step_once() == 0
    assert follower.standing.lag_entries == 6


async def test_failures_back_off_to_a_bound_and_a_success_forgets_them(parts: Parts) -> None:
    follower = parts.follower(Steps(*[AWAY] * 30, Progress(size=10)))
    pauses = [await follower.step_once() for _ in range(30)]
    assert pauses[:3] == [2_000, 4_000, 8_000]
    assert pauses[-1] == BACK_OFF_MS_MAX
    assert follower.standing.reason == "no answer"
    assert await follower.step_once() == HOUR_MS
    assert (follower.standing.failures, follower.standing.reason) == (0, "")


async def test_a_step_that_hangs_is_cut_off_and_counts_as_failed(parts: Parts) -> None:
    class Hang(Steps):
        async def __call__(self) -> Progress:
            await asyncio.Event().wait()
            raise AssertionError

    follower = parts.follower(Hang(AWAY), step_ms_max=1)
    await follower.step_once()
    assert "more than 1 ms" in follower.standing.reason


async def test_it_is_late_only_after_the_time_and_a_failed_try(parts: Parts) -> None:
    follower = parts.follower(Steps(Progress(size=10), AWAY), late_after_ms=HOUR_MS)
    await follower.step_once()
    parts.clock.pass_time(2 * HOUR_MS)
    before = follower.standing
    await follower.step_once()
    after = follower.standing
    assert (before.is_late, after.is_late, after.silent_ms) == (False, True, 2 * HOUR_MS)


async def test_the_last_success_is_known_after_a_restart(parts: Parts) -> None:
    await parts.follower(Steps(Progress(size=10))).step_once()
    parts.clock.pass_time(5_000)
    again = parts.follower(Steps(Progress(size=10)))
    await again.resume()
    assert again.standing.silent_ms == 5_000


async def test_what_no_later_try_can_cure_ends_the_service(parts: Parts) -> None:
    with pytest.raises(Corrupt):
        await parts.follower(Steps(Corrupt("evidence_damaged", "x"))).step_once()


async def test_metrics_show_lag_and_failures(parts: Parts) -> None:
    follower = parts.follower(Steps(AWAY))
    await follower.step_once()
    follower._tell()
    page = parts.metrics.render().decode()
    assert 'tillstone_follower_lag_entries{follower="witness"} 10.0' in page
    assert 'tillstone_follower_failures_total{follower="witness"} 1.0' in page
    assert 'tillstone_follower_success_timestamp_seconds{follower="witness"} 0.0' in page


async def test_a_failure_is_told_at_once_with_the_time_of_the_next_try(parts: Parts) -> None:
    follower = parts.follower(Steps(AWAY, Progress(size=9)))
    assert finding_of(follower.standing).level is Level.OK
    running = asyncio.create_task(follower.run())
    await parts.clock.settle()
    await parts.store.cursor("witness")  # behind the follower's own reading of it
    await parts.clock.advance(1_500)
    told = finding_of(follower.standing)
    running.cancel()
    assert told.level is Level.COPING
    assert re.search(r"witness: no answer; 10 entries to go, next try in [12] s", told.sentence)
    await follower.step_once()
    assert finding_of(follower.standing).sentence == "Follower witness: 1 entry to go."
