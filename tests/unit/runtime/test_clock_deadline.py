"""Steps of the wall clock are told from drift; deadlines only shrink."""

from __future__ import annotations

import asyncio
import time

import pytest

from appliance.ports.clock import Clock
from appliance.runtime.clock import StepDetector, SystemClock
from appliance.runtime.deadline import Deadline
from tests.fakes.clock import FakeClock


async def test_system_clock_reads_the_kernels_clocks() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.now_ms() - time.time() * 1_000) < 1_000
    before = clock.monotonic_ms()
    await clock.sleep(1)
    assert clock.monotonic_ms() > before


@pytest.mark.parametrize("step_ms", [500, -500, 86_400_000, -3_600_000])
def test_a_step_is_seen_once(step_ms: int) -> None:
    clock = FakeClock()
    detector = StepDetector(clock=clock)
    clock.pass_time(1_000)
    assert detector.step_ms() == 0
    clock.step(step_ms)
    assert detector.step_ms() == step_ms
    assert detector.step_ms() == 0


def test_slow_drift_never_adds_up_to_a_step() -> None:
    clock = FakeClock()
    detector = StepDetector(clock=clock)
    for _ in range(1_000):
        clock.pass_time(1_000)
        clock.step(1)
        assert detector.step_ms() == 0


async def test_steps_are_yielded_with_the_time_after_them() -> None:
    clock = FakeClock()
    steps = StepDetector(clock=clock).steps()

    async def move() -> None:
        await clock.advance(5_000)
        clock.step(-7_000)
        await clock.advance(1_000)

    async with asyncio.TaskGroup() as group:
        group.create_task(move())
        step = await anext(steps)
    assert step.step_ms == -7_000
    assert step.now_ms == clock.now_ms()


async def test_fake_sleepers_wake_in_order_at_their_moment() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(duration_ms: int) -> None:
        await clock.sleep(duration_ms)
        woken.append((duration_ms, clock.monotonic_ms()))

    async with asyncio.TaskGroup() as group:
        for duration_ms in (300, 100, 200):
            group.create_task(sleeper(duration_ms))
        await clock.advance(250)
        assert woken == [(100, 100), (200, 200)]
        assert clock.sleeper_count == 1
        await clock.advance(50)
    assert woken[-1] == (300, 300)


def test_deadline_shrinks_to_zero_and_stays() -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 100)
    clock.step(1_000_000)
    assert deadline.remaining_ms == 100
    clock.pass_time(60)
    assert deadline.remaining_ms == 40
    assert not deadline.has_passed
    clock.pass_time(60)
    assert deadline.remaining_ms == 0
    assert deadline.has_passed


def test_inner_bound_never_extends_a_deadline() -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 100)
    assert deadline.at_most(30).remaining_ms == 30
    assert deadline.at_most(1_000).remaining_ms == 100


async def test_scope_of_a_passed_deadline_ends_at_the_first_wait() -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 0)
    with pytest.raises(TimeoutError):
        async with deadline.scope():
            await asyncio.Event().wait()
