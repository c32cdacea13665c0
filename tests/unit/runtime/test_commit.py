"""Once begun, an irreversible stretch runs to its end."""

from __future__ import annotations

import asyncio
import gc

import pytest

from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected
from appliance.runtime.commit import run_to_completion
from appliance.runtime.supervise import Supervisor, supervised
from tests.fakes.clock import FakeClock
from tests.unit.runtime.lines import Lines


class Stretch:
    """Work that waits for permission and remembers that it ended."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.has_ended = False

    async def run(self) -> str:
        self.has_begun.set()
        await self.may_end.wait()
        self.has_ended = True
        return "outcome"


async def call(supervisor: Supervisor, stretch: Stretch, bound_ms: int = 60_000) -> str:
    return await run_to_completion(supervisor, "sale", stretch.run, bound_ms=bound_ms)


async def test_result_comes_back() -> None:
    stretch = Stretch()
    stretch.may_end.set()
    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        assert await call(supervisor, stretch) == "outcome"
        assert supervisor.works_open == 0


async def test_hanging_up_never_cuts_the_work_and_is_raised_after_it() -> None:
    stretch, seen = Stretch(), []

    async def client(supervisor: Supervisor) -> None:
        try:
            await call(supervisor, stretch)
        except asyncio.CancelledError:
            seen.append(stretch.has_ended)
            raise

    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor, asyncio.TaskGroup() as clients:
        caller = clients.create_task(client(supervisor))
        await stretch.has_begun.wait()
        for _ in range(3):
            caller.cancel()
            await asyncio.sleep(0)
        assert not caller.done()
        stretch.may_end.set()
    assert caller.cancelled()
    assert seen == [True]


async def test_deadline_of_the_caller_passes_only_after_the_work() -> None:
    stretch = Stretch()

    async def client(supervisor: Supervisor) -> None:
        async with asyncio.timeout(0.001):
            asyncio.get_running_loop().call_later(0.01, stretch.may_end.set)
            await call(supervisor, stretch)

    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        with pytest.raises(TimeoutError):
            await client(supervisor)
        assert stretch.has_ended


async def test_bound_exceeded_is_outcome_unknown() -> None:
    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        with pytest.raises(OutcomeUnknown, match="work_overran"):
            await call(supervisor, Stretch(), bound_ms=1)


async def test_timeout_of_the_work_itself_is_not_taken_for_the_bound() -> None:
    async def work() -> None:
        raise TimeoutError

    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        with pytest.raises(TimeoutError):
            await run_to_completion(supervisor, "sale", work, bound_ms=60_000)


async def test_error_of_the_work_reaches_the_caller_and_leaves_the_process_running() -> None:
    async def work() -> None:
        raise Rejected("amount_zero", "an amount is above zero")

    async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
        with pytest.raises(Rejected):
            await run_to_completion(supervisor, "sale", work, bound_ms=60_000)
        stretch = Stretch()
        stretch.may_end.set()
        assert await call(supervisor, stretch) == "outcome"


async def test_corrupt_work_ends_the_process() -> None:
    async def work() -> None:
        raise Corrupt("tail_differs", "the tail on disk is the tail in memory")

    async def process() -> None:
        async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
            with pytest.raises(Corrupt):
                await run_to_completion(supervisor, "sale", work, bound_ms=60_000)
            await supervisor.stopped()

    with pytest.raises(ExceptionGroup) as caught:
        await process()
    assert caught.group_contains(Corrupt)


async def test_process_ending_first_is_outcome_unknown() -> None:
    results: list[asyncio.Future[str]] = []

    async def crash() -> None:
        raise ValueError

    async def process() -> None:
        async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
            supervisor.start("writer", crash)
            results.append(supervisor.begin("sale", Stretch().run, bound_ms=60_000))
            await supervisor.stopped()

    with pytest.raises(ExceptionGroup):
        await process()
    assert isinstance(results[0].exception(), OutcomeUnknown)


async def test_work_that_never_took_its_first_step_is_answered_too() -> None:
    results: list[asyncio.Future[str]] = []

    async def process() -> None:
        async with supervised(log=Lines().log, clock=FakeClock()) as supervisor:
            results.append(supervisor.begin("sale", Stretch().run, bound_ms=60_000))
            raise ValueError

    with pytest.raises(ExceptionGroup):
        await process()
    assert isinstance(results[0].exception(), OutcomeUnknown)


async def test_error_that_nobody_waits_for_is_logged_and_no_warning() -> None:
    lines = Lines()

    async def work() -> None:
        raise ValueError("planted-secret")

    async with supervised(log=lines.log, clock=FakeClock()) as supervisor:
        supervisor.begin("sale", work, bound_ms=60_000).cancel()
        _ = supervisor.begin("sale", work, bound_ms=60_000)
    gc.collect()
    assert lines.events == ["work.failed", "work.failed"]
    assert "planted" not in lines.text
