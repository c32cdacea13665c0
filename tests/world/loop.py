"""An event loop without time and threads: one queue, a virtual clock, and machines that can die between two steps.

Owns the order of everything in a world. Must never read a clock, start a thread or wait for anything real.

* When nothing is ready, time jumps to the next timer. Work for threads runs here, after a delay of the world's choice.
* Whatever runs belongs to the machine in whose context it was scheduled. A machine that is dead runs nothing more, not
  even a `finally`: that is what a power cut is. Its tasks are kept until the world is thrown away, so that no collector
  runs their cleanup in the middle of it.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_MAX: Final = 2_000_000
"""A world that takes more has lost its way; an honest one takes some ten thousand."""


@dataclass(slots=True, kw_only=True, eq=False)
class Machine:
    """Something that can lose its power.

    Attributes:
        is_wire: it goes on while everybody else stands still.
        fuel: steps until `burnt_out` is called and the machine is dead; None for no such plan.
    """

    name: str
    is_wire: bool = False
    is_alive: bool = True
    fuel: int | None = None
    burnt_out: Callable[[], None] = lambda: None


MACHINE: Final[contextvars.ContextVar[Machine]] = contextvars.ContextVar("machine")
_OUTSIDE: Final = Machine(name="outside")


class WorldLoop(asyncio.AbstractEventLoop):
    """Runs until a coroutine is done; `work_delay` says how long a thread takes to get to its work."""

    def __init__(self, work_delay: Callable[[], float]) -> None:
        self._work_delay = work_delay
        self._now = 0.0
        self._order = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._kept: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.crashes: list[str] = []
        """What no task was there to hear, in a machine that lives."""

    # --- running ---

    def run_until_complete(self, future: Generator[Any, None, T] | Any) -> T:
        task: asyncio.Task[T] = self.create_task(future)
        events._set_running_loop(self)
        try:
            while not task.done():
                self._step()
        finally:
            events._set_running_loop(None)
        return task.result()

    def _step(self) -> None:
        if not self._ready:
            self._wake_next()
        handle = self._ready.popleft()
        machine = _machine_of(handle)
        if handle.cancelled() or not machine.is_alive:
            return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError(f"the world takes more than {STEPS_MAX} steps")
        handle._run()
        if machine.fuel is not None and machine.is_alive:
            machine.fuel -= 1
            if machine.fuel <= 0:
                machine.fuel = None
                machine.burnt_out()

    def _wake_next(self) -> None:
        while self._timers:
            when, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled() and _machine_of(handle).is_alive:
                self._now = max(self._now, when)
                self._ready.append(handle)
                return
        raise RuntimeError("the world waits for something that never comes")

    def jump(self, seconds: float) -> None:
        """Let time pass in which only wires run; what else is due by then runs late."""
        end = self._now + seconds
        late = []
        while self._timers and self._timers[0][0] <= end:
            timer = heapq.heappop(self._timers)
            when, _, handle = timer
            if not _machine_of(handle).is_wire:
                late.append(timer)
            elif not handle.cancelled():
                self._now = max(self._now, when)
                handle._run()
        for timer in late:
            heapq.heappush(self._timers, timer)
        self._now = end

    def spawn(self, machine: Machine, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin a task that belongs to `machine` and dies with it."""
        context = contextvars.copy_context()
        context.run(MACHINE.set, machine)
        _ = context.run(lambda: self.create_task(work, name=name))

    def on(self, machine: Machine, seconds: float, call: Callable[[], None]) -> None:
        """Do `call` on `machine` after a while, unless it is dead by then."""
        context = contextvars.copy_context()
        context.run(MACHINE.set, machine)
        self.call_later(seconds, call, context=context)

    # --- what asyncio asks of a loop ---

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays where it is and is passed over."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: object = None, context: Any = None, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=None if name is None else str(name), context=context
        )
        self._kept.append(task)
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                with threadlike():
                    value = func(*args)
            except BaseException as error:  # noqa: BLE001 - a thread's border: the future carries it
                future.set_exception(error)
            else:
                future.set_result(value)

        self.call_later(self._work_delay(), work)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and MACHINE.get(_OUTSIDE).is_alive:
            self.crashes.append(f"{context.get('message')}: {type(error).__name__}: {error}")


def _machine_of(handle: asyncio.Handle) -> Machine:
    machine: Machine = handle._context.get(MACHINE, _OUTSIDE)  # type: ignore[attr-defined]  # asyncio's own field
    return machine


@contextmanager
def threadlike() -> Generator[None]:
    """As on a thread: no loop runs here."""
    running = events._get_running_loop()
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(running)


class WorldClock:
    """Satisfies `ports/clock.py`: virtual monotonic time, and a wall clock that may be wrong by `offset_ms`."""

    def __init__(self, loop: WorldLoop, *, true_start_ms: int, offset_ms: int = 0) -> None:
        self._loop = loop
        self._true_start_ms = true_start_ms
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return self._true_start_ms + self.monotonic_ms() + self.offset_ms

    def monotonic_ms(self) -> int:
        return round(self._loop.time() * 1_000)

    async def sleep(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1_000)


def hand_over(reply: asyncio.Future[T], said: T) -> None:
    """Answer whoever still waits."""
    if not reply.done():
        reply.set_result(said)
