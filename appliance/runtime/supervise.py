"""Where tasks are born (but for a door's handshakes, `accept.py`): each has a name, an owner and an end.

Two kinds of task live here. A *service* runs as long as the process does: a door, or a part of the core behind it. A
*work* is a short irreversible stretch (`commit.py`) that must end by itself, whoever waits for it.

Rules:
* An essential service that crashes or ends takes the process with it; the next start recovers. So does any service's
  Corrupt or Bug, and any work's Corrupt.
* A stop closes the doors first, waits for the works, then ends the core in the reverse order of its start.
* An error of a work goes to whoever waits for it, and to the log even if nobody waits any more.
* Never fire and forget; never swallow a cancellation.
"""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from appliance.model.errors import Bug, Corrupt, OutcomeUnknown, Unavailable
from appliance.model.invariants import ensure
from appliance.ports.clock import Clock
from appliance.runtime.log import Log

T = TypeVar("T")

WORKS_MAX: Final = 4_096
STOP_MS_MAX: Final = 40_000
"""Longer than the longest bound of a work (a provider's 30 s), shorter than the service manager's patience of 90 s."""
_RESTART_MS_MIN: Final = 1_000
_RESTART_MS_MAX: Final = 60_000


class Restart(Enum):
    """What the end of a service means."""

    ESSENTIAL = "essential"
    """Its end, by crash or return, ends the process."""
    ON_CRASH = "on_crash"
    """A crash starts it again after 1 s, doubling up to 60 s; returning is fine."""


class Tier(Enum):
    """When a service ends in an orderly stop."""

    DOOR = "door"
    """First, so that no new work comes in."""
    CORE = "core"
    """Last, because works need it to finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    name: str
    tier: Tier
    task: asyncio.Task[None]


@asynccontextmanager
async def supervised(*, log: Log, clock: Clock, stop_ms_max: int = STOP_MS_MAX) -> AsyncIterator[Supervisor]:
    """The process's task group. The body starts services, then waits for `stopped()`.

    Raises:
        ExceptionGroup: an essential service crashed; everything else was cancelled.
    """
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group=group, log=log, clock=clock)
        try:
            yield supervisor
            await supervisor.finish(stop_ms_max)
        finally:
            supervisor.refuse_works()


class Supervisor:
    """Starts services and works, and knows all of them by name. Made by `supervised`."""

    def __init__(self, *, group: asyncio.TaskGroup, log: Log, clock: Clock) -> None:
        self._group = group
        self._log = log
        self._clock = clock
        self._services: dict[str, _Service] = {}
        self._works: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._accepts_works = True
        self._is_stopping = False

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the services that run, in the order of their start."""
        return tuple(name for name, service in self._services.items() if not service.task.done())

    @property
    def works_open(self) -> int:
        """How many works have not ended."""
        return len(self._works)

    def start(
        self,
        name: str,
        service: Callable[[], Awaitable[None]],
        *,
        restart: Restart = Restart.ESSENTIAL,
        tier: Tier = Tier.CORE,
    ) -> None:
        """Run `service` until the stop. It is called anew for each restart."""
        ensure(name not in self._services, "a service has a name of its own")
        task = self._group.create_task(self._run(name, service, restart), name=name)
        self._services[name] = _Service(name=name, tier=tier, task=task)

    def begin(self, name: str, work: Callable[[], Awaitable[T]], *, bound_ms: int) -> asyncio.Future[T]:
        """Start a work and return the future of its result; cancelling the future leaves the work running.

        The future fails with OutcomeUnknown when the work is cut off, by its bound or by the end of the process.

        Raises:
            Unavailable: the process is stopping, or too many works are open; nothing was started.
        """
        if not self._accepts_works:
            raise Unavailable("stopping", "the process is stopping and starts nothing new")
        if len(self._works) >= WORKS_MAX:
            raise Unavailable("works_too_many", f"at most {WORKS_MAX} works run at a time")
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._work(name, work, bound_ms, result), name=name)
        self._works.add(task)
        task.add_done_callback(functools.partial(self._close, name, result))
        return result

    def stop(self, reason: str) -> None:
        """Ask for an orderly stop; the second time is the same as the first."""
        if not self._stop.is_set():
            self._log.info("stop.requested", reason=reason)
            self._stop.set()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT ask for the stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)

    async def stopped(self) -> None:
        """Wait until somebody asks for the stop."""
        await self._stop.wait()

    async def finish(self, bound_ms: int) -> None:
        """Doors, works, core: in this order, and at most `bound_ms` in all; then whatever is left is cancelled."""
        self._is_stopping = True
        try:
            async with asyncio.timeout(bound_ms / 1_000):
                await self._end(Tier.DOOR)
                while self._works:
                    await asyncio.wait(self._works)
                self.refuse_works()
                await self._end(Tier.CORE)
        except TimeoutError:
            self._log.warning("stop.overran", services=",".join(self.running), works=len(self._works))
            for task in (*self._works, *(service.task for service in self._services.values())):
                task.cancel()

    def refuse_works(self) -> None:
        """From now on `begin` refuses."""
        self._accepts_works = False

    async def _end(self, tier: Tier) -> None:
        for service in reversed(self._services.values()):
            if service.tier is tier and not service.task.done():
                service.task.cancel()
                await asyncio.wait({service.task})

    async def _run(self, name: str, service: Callable[[], Awaitable[None]], restart: Restart) -> None:
        pause_ms = _RESTART_MS_MIN
        while True:
            started_ms = self._clock.monotonic_ms()
            try:
                await service()
                if restart is Restart.ON_CRASH or self._is_stopping:
                    return
                raise Bug("service_ended", f"the service {name} runs until the stop")
            except asyncio.CancelledError as lost:
                if _is_being_cancelled():
                    raise
                # A group takes a cancelled child for a finished one; an essential service must not vanish like that.
                self._log.error("service.crashed", service=name, error=lost)
                raise Bug("service_vanished", f"the service {name} cancelled itself") from lost
            except Exception as crash:
                is_fatal = restart is Restart.ESSENTIAL or isinstance(crash, (Bug, Corrupt))
                if is_fatal:
                    self._log.error("service.crashed", service=name, error=crash)
                    self.refuse_works()
                    raise
                if self._clock.monotonic_ms() - started_ms >= _RESTART_MS_MAX:
                    pause_ms = _RESTART_MS_MIN
                self._log.warning("service.restarted", service=name, error=crash, pause_ms=pause_ms)
            await self._clock.sleep(pause_ms)
            pause_ms = min(2 * pause_ms, _RESTART_MS_MAX)

    async def _work(
        self, name: str, work: Callable[[], Awaitable[T]], bound_ms: int, result: asyncio.Future[T]
    ) -> None:
        bound = asyncio.timeout(bound_ms / 1_000)
        try:
            async with bound:
                value = await work()
            if not result.done():
                result.set_result(value)
        except Exception as error:
            if isinstance(error, TimeoutError) and bound.expired():
                error = OutcomeUnknown("work_overran", f"{name} took longer than {bound_ms} ms")
            _fail(result, error)
            if isinstance(error, Corrupt):
                self.refuse_works()
                raise
            self._log.warning("work.failed", work=name, error=error)

    def _close(self, name: str, result: asyncio.Future[T], task: asyncio.Task[None]) -> None:
        # A callback and not a `finally`: a task that is cancelled before its first step never enters its body.
        self._works.discard(task)
        if task.cancelled():
            _fail(result, OutcomeUnknown("work_cut_off", f"the process ended before {name} did"))


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fail(result: asyncio.Future[T], error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
        result.exception()  # marks it as seen: a caller who hung up must not become a warning at some later time
