"""The loop under a world: virtual time, work without threads, machines that die between two steps."""

from __future__ import annotations

import asyncio

from tests.world.loop import Machine, WorldClock, WorldLoop


def make_loop() -> WorldLoop:
    return WorldLoop(lambda: 0.001)  # type: ignore[abstract]  # it does what a world needs of a loop, and no more


def test_time_passes_only_as_far_as_somebody_waits() -> None:
    loop = make_loop()
    clock = WorldClock(loop, true_start_ms=1_000, offset_ms=-5)

    async def wait() -> int:
        await clock.sleep(3_600_000)
        return await asyncio.to_thread(clock.now_ms)

    assert loop.run_until_complete(wait()) == 3_600_000 + 1_000 - 5 + 1


def test_timeout_is_virtual_and_cancels() -> None:
    loop = make_loop()

    async def overrun() -> str:
        try:
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        except TimeoutError:
            return f"after {loop.time():.0f} s"
        return "never"

    assert loop.run_until_complete(overrun()) == "after 30 s"


def test_dead_machine_runs_nothing_more_not_even_its_cleanup() -> None:
    loop, heard = make_loop(), []
    machine = Machine(name="box", fuel=3)
    machine.burnt_out = lambda: setattr(machine, "is_alive", False)

    async def work() -> None:
        try:
            for number in range(9):
                heard.append(number)
                await asyncio.sleep(1)
        finally:
            heard.append(-1)

    async def wait() -> None:
        loop.spawn(machine, work(), "work")
        await asyncio.sleep(60)

    loop.run_until_complete(wait())
    assert heard[0] == 0
    assert -1 not in heard
    assert len(heard) < 9


def test_wires_run_while_everybody_else_stands_still() -> None:
    loop, heard = make_loop(), []

    async def wait() -> None:
        loop.on(Machine(name="lan", is_wire=True), 5.0, lambda: heard.append(("lan", loop.time())))
        loop.on(Machine(name="till"), 5.0, lambda: heard.append(("till", loop.time())))
        loop.jump(3_600)
        await asyncio.sleep(0.1)

    loop.run_until_complete(wait())
    assert heard == [("lan", 5.0), ("till", 3_600.0)]
