"""Services end in order, crash the process when essential, and never vanish."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from appliance.model.errors import Bug, Corrupt, OutcomeUnknown, Unavailable
from appliance.runtime import supervise
from appliance.runtime.supervise import Restart, Tier, supervised
from tests.fakes.clock import FakeClock
from tests.unit.runtime.lines import Lines


async def forever() -> None:
    await asyncio.Event().wait()


async def process(service: Callable[[], Awaitable[None]], lines: Lines, restart: Restart = Restart.ESSENTIAL) -> None:
    """A process of two services that runs until one of them ends it."""
    async with supervised(log=lines.log, clock=FakeClock()) as supervisor:
        supervisor.start("other", forever)
        supervisor.start("service", service, restart=restart)
        await supervisor.stopped()


async def test_orderly_stop_closes_doors_then_finishes_works_then_ends_the_core_backwards() -> None:
    ended: list[str] = []
    released = asyncio.Event()

    async def service(name: str) -> None:
        try:
            await forever()
        finally:
            ended.append(name)
            if name == "door":
                released.set()

    async def work() -> None:
        await released.wait()
        ended.append("work")

    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        supervisor.start("writer", lambda: service("writer"))
        supervisor.start("signer", lambda: service("signer"))
        supervisor.start("door", lambda: service("door"), tier=Tier.DOOR)
        assert supervisor.running == ("writer", "signer", "door")
        await asyncio.sleep(0)
        _ = supervisor.begin("sale", work, bound_ms=5_000)
        supervisor.stop("test")
        await supervisor.stopped()
    assert ended == ["door", "work", "signer", "writer"]


async def test_crash_of_an_essential_service_ends_everything() -> None:
    lines = Lines()

    async def crash() -> None:
        raise ValueError("planted-secret")

    with pytest.raises(ExceptionGroup) as caught:
        await process(crash, lines)
    assert caught.group_contains(ValueError)
    assert lines.events == ["service.crashed"]
    assert "planted" not in lines.text


async def test_essential_service_that_returns_or_cancels_itself_is_a_crash() -> None:
    async def returns() -> None:
        await asyncio.sleep(0)

    async def vanishes() -> None:
        raise asyncio.CancelledError

    for service in (returns, vanishes):
        with pytest.raises(ExceptionGroup) as caught:
            await process(service, Lines())
        assert caught.group_contains(Bug)


async def test_service_that_may_crash_is_restarted_after_a_growing_pause() -> None:
    clock, lines, starts = FakeClock(), Lines(), []

    async def crash() -> None:
        starts.append(clock.monotonic_ms())
        raise ValueError

    async with supervised(log=lines.log, clock=clock) as supervisor:
        supervisor.start("announcer", crash, restart=Restart.ON_CRASH)
        await clock.advance(200_000)
        supervisor.stop("test")
    assert starts == [0, 1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 123_000, 183_000]
    assert lines.events[0] == "service.restarted"


@pytest.mark.parametrize("error", [Corrupt("a", "b"), Bug("a", "b")])
async def test_corrupt_and_bug_end_the_process_even_where_a_restart_is_allowed(error: Exception) -> None:
    async def crash() -> None:
        raise error

    with pytest.raises(ExceptionGroup):
        await process(crash, Lines(), Restart.ON_CRASH)


async def test_stop_that_overruns_cuts_what_is_left_and_says_so() -> None:
    lines = Lines()
    async with supervised(log=lines.log, clock=FakeClock(), stop_ms_max=1) as supervisor:
        supervisor.start("writer", forever)
        result = supervisor.begin("sale", forever, bound_ms=60_000)
        supervisor.stop("test")
    assert "stop.overran" in lines.events
    assert isinstance(result.exception(), OutcomeUnknown)


async def test_sigterm_asks_for_an_orderly_stop() -> None:
    lines = Lines()
    async with supervised(log=lines.log, clock=FakeClock()) as supervisor:
        supervisor.stop_on_signals()
        supervisor.start("writer", forever)
        os.kill(os.getpid(), signal.SIGTERM)
        await supervisor.stopped()
    assert lines.parsed[0]["reason"] == "SIGTERM"


async def test_works_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "WORKS_MAX", 1)
    async with supervised(log=Lines().log, clock=FakeClock(), stop_ms_max=1) as supervisor:
        _ = supervisor.begin("sale", forever, bound_ms=60_000)
        with pytest.raises(Unavailable, match="works_too_many"):
            _ = supervisor.begin("sale", forever, bound_ms=60_000)


async def test_nothing_begins_after_the_stop() -> None:
    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        supervisor.stop("test")
    with pytest.raises(Unavailable, match="stopping"):
        _ = supervisor.begin("sale", forever, bound_ms=1)
