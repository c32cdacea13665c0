"""One blocking session, one thread: the bridge from asyncio to a device that can hang.

Owns the thread, its bounded queue and the deadline of every call. It never knows what the session is, never retries a
call and never closes a session from a foreign thread.

Rules:
- A call that has not begun when its deadline passes never begins: `Unavailable`, nothing happened.
- A call that has begun cannot be stopped (vendor libraries hang for minutes in the field). Past its deadline its
  outcome is unknown, its thread is retired with its session, and a fresh thread serves the queue. A retired thread
  that comes back closes its own session and ends. The number of threads that may hang at once is bounded; past it the
  device is `Unavailable`.
- A session that raised a fatal error is closed and built anew for the next call, not for this one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from appliance.model.errors import OutcomeUnknown, TillstoneError, Unavailable
from appliance.model.invariants import ensure

QUEUE_DEPTH_MAX = 64
RETIRED_MAX = 2
_JOIN_SECONDS = 1.0  # how long close() waits for a thread that may hang for ever

Session = TypeVar("Session")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKind(Generic[Session]):
    """What the thread must know of its session; every callable runs on the owner thread.

    Attributes:
        name: of the device, for messages and thread names.
        open: builds a session; may raise, the next call tries again.
        close: releases it; errors of a dying device are swallowed.
        translate: the driver's exception in our words; None when the exception is not the driver's.
        is_fatal: the session must not be used again after this exception.
    """

    name: str
    open: Callable[[], Session]
    close: Callable[[Session], None]
    translate: Callable[[Exception], TillstoneError | None]
    is_fatal: Callable[[Exception], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job(Generic[Session]):
    call: Callable[[Session], Any]  # Any: jobs of every result type share one queue; run() restores the type
    future: Future[Any]
    expires_at: float


class OwnerThread(Generic[Session]):
    """Runs calls one after another on the thread that owns the session."""

    def __init__(
        self,
        *,
        kind: SessionKind[Session],
        queue_depth_max: int = QUEUE_DEPTH_MAX,
        retired_max: int = RETIRED_MAX,
    ) -> None:
        ensure(
            queue_depth_max > 0 and retired_max > 0, "an owner thread has a queue and may retire at least one thread"
        )
        self._kind = kind
        self._retired_max = retired_max
        self._jobs: queue.Queue[_Job[Session] | None] = queue.Queue(queue_depth_max)
        self._worker: _Worker[Session] | None = None
        self._retired: list[_Worker[Session]] = []
        self._is_closed = False

    @property
    def hung_count(self) -> int:
        """Calls that passed their deadline and have not come back."""
        return sum(1 for worker in self._retired if worker.thread.is_alive())

    async def run(self, call: Callable[[Session], Result], deadline_ms: int) -> Result:
        """Run `call(session)` on the owner thread and return its result.

        Args:
            deadline_ms: how long the caller waits, queueing included, in milliseconds from now.
        Raises:
            Unavailable: the queue is full, the device hangs, or the call had not begun in time; nothing happened.
            OutcomeUnknown: the call had begun and did not end in time.
            TillstoneError: whatever `translate` made of the driver's exception.
        """
        loop = asyncio.get_running_loop()
        job = _Job(call=call, future=Future[Any](), expires_at=loop.time() + deadline_ms / 1000)
        self._submit(job, loop.time())
        reply = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait([reply], timeout=deadline_ms / 1000)
            if reply.done():
                return cast("Result", reply.result())
        finally:
            # Also on cancellation: what has not begun must not begin behind the caller's back.
            has_begun = not job.future.cancel()
            reply.cancel()
        self._retire_overdue(max(loop.time(), job.expires_at))  # timers may fire one clock tick early
        if not has_begun:
            raise Unavailable("device_busy", f"{self._kind.name}: the call had not begun after {deadline_ms} ms")
        raise OutcomeUnknown("device_deadline", f"{self._kind.name}: no answer within {deadline_ms} ms")

    async def close(self) -> None:
        """End the thread after the call it runs; a hanging one is left behind (it is a daemon)."""
        self._is_closed = True
        worker, self._worker = self._worker, None
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(
                    Unavailable("device_closed", f"{self._kind.name}: closed before the call began")
                )
        if worker is not None:
            worker.is_retired = True
            self._jobs.put_nowait(None)  # wakes a worker that waits for work; the queue has just been emptied
            await asyncio.to_thread(worker.thread.join, _JOIN_SECONDS)

    def _submit(self, job: _Job[Session], now: float) -> None:
        if self._is_closed:
            raise Unavailable("device_closed", f"{self._kind.name}: the owner thread has been closed")
        self._retire_overdue(now)
        if self._worker is None or not self._worker.thread.is_alive():
            self._start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Unavailable(
                "device_queue_full", f"{self._kind.name}: {self._jobs.maxsize} calls are waiting"
            ) from None

    def _start(self) -> None:
        self._retired = [worker for worker in self._retired if worker.thread.is_alive()]
        if len(self._retired) >= self._retired_max:
            raise Unavailable("device_hung", f"{self._kind.name}: {len(self._retired)} calls hang, no more are tried")
        self._worker = _Worker(kind=self._kind, jobs=self._jobs)
        self._worker.thread.start()

    def _retire_overdue(self, now: float) -> None:
        """Retire the worker when what it runs is past its deadline, whoever still waits for it.

        A cancelled caller no longer watches its call, so every later caller looks.
        """
        worker = self._worker
        if worker is None:
            return
        running = worker.running
        if running is None or running.future.done() or now < running.expires_at:
            return
        worker.is_retired = True
        self._worker = None
        self._retired.append(worker)
        if not self._jobs.empty():
            # Whoever queued behind the hanging call is served by a fresh thread, unless too many hang already.
            with suppress(Unavailable):
                self._start()


class _Worker(Generic[Session]):
    """The thread and the session it owns."""

    def __init__(self, *, kind: SessionKind[Session], jobs: queue.Queue[_Job[Session] | None]) -> None:
        self.is_retired = False
        self.running: _Job[Session] | None = None
        self._kind = kind
        self._jobs = jobs
        self._session: Session | None = None
        # A daemon: a call that never returns must not keep the process from ending.
        self.thread = threading.Thread(target=self._serve, name=f"owner-{kind.name}", daemon=True)

    def _serve(self) -> None:
        while not self.is_retired:
            job = self._jobs.get()
            if job is None:
                break
            self.running = job  # before the claim: a call that has begun is always seen by the one who watches it
            if job.future.set_running_or_notify_cancel():
                self._perform(job)
            self.running = None
        self._drop_session()

    def _perform(self, job: _Job[Session]) -> None:
        try:
            if self._session is None:
                self._session = self._kind.open()
            result = job.call(self._session)
        except Exception as error:  # noqa: BLE001 - a thread's border: what is not handed over here is lost
            if self._kind.is_fatal(error):
                self._drop_session()
            translated = error if isinstance(error, TillstoneError) else self._kind.translate(error)
            if translated is not None and translated is not error:
                translated.__cause__ = error
            job.future.set_exception(translated or error)
        else:
            job.future.set_result(result)

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):  # a dead device cannot be closed properly, and nothing depends on it
                self._kind.close(session)
