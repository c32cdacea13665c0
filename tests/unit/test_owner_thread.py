"""A device may hang; whoever calls it gets an answer in time and the next caller is served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.model.errors import OutcomeUnknown, TillstoneError, Unavailable

LONG_MS = 30_000  # never reached: a bound for a broken test
SHORT_MS = 100  # long enough for a thread to begin on a busy machine
QUEUE_DEPTH_MAX = 2
RETIRED_MAX = 2


class DeviceError(Exception):
    """The driver's own exception."""


class DeadDeviceError(DeviceError):
    """The session must not be used again."""


class Session:
    """Counts itself and knows the threads that touched it."""

    def __init__(self) -> None:
        self.thread_ids = {threading.get_ident()}
        self.is_closed = threading.Event()

    def touch(self) -> Session:
        self.thread_ids.add(threading.get_ident())
        return self


class Device:
    """Opens sessions, hangs and comes back when told."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.opening_fails = False
        self.comes_back = threading.Event()
        self.has_begun = threading.Event()
        self.thread = OwnerThread(
            kind=SessionKind(
                name="device",
                open=self._open,
                close=self._close,
                translate=self._translate,
                is_fatal=lambda error: isinstance(error, DeadDeviceError),
            ),
            queue_depth_max=QUEUE_DEPTH_MAX,
            retired_max=RETIRED_MAX,
        )

    def hang(self, session: Session) -> str:
        session.touch()
        self.has_begun.set()
        self.comes_back.wait()
        return "late"

    async def begun(self) -> None:
        await asyncio.to_thread(self.has_begun.wait)
        self.has_begun.clear()

    def _open(self) -> Session:
        if self.opening_fails:
            raise DeadDeviceError("no such device")
        self.sessions.append(Session())
        return self.sessions[-1]

    def _close(self, session: Session) -> None:
        session.touch()
        session.is_closed.set()

    def _translate(self, error: Exception) -> TillstoneError | None:
        return Unavailable("device_away", str(error)) if isinstance(error, DeviceError) else None


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    made = Device()
    yield made
    made.comes_back.set()
    await made.thread.close()


async def test_calls_run_on_one_thread_that_is_not_the_loop(device: Device) -> None:
    for _ in range(3):
        await device.thread.run(Session.touch, LONG_MS)
    (session,) = device.sessions
    assert len(session.thread_ids) == 1
    assert threading.get_ident() not in session.thread_ids


async def test_call_past_its_deadline_is_unknown_and_the_next_one_is_served(device: Device) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown, match="100 ms"):
            await device.thread.run(device.hang, SHORT_MS)
        assert await device.thread.run(lambda _session: "served", LONG_MS) == "served"
    assert len(device.sessions) == 2
    assert device.thread.hung_count == 1


async def test_retired_thread_closes_its_own_session_when_it_comes_back(device: Device) -> None:
    with pytest.raises(OutcomeUnknown):
        await device.thread.run(device.hang, SHORT_MS)
    device.comes_back.set()
    await asyncio.to_thread(device.sessions[0].is_closed.wait)
    assert len(device.sessions[0].thread_ids) == 1


async def test_call_that_had_not_begun_never_begins(device: Device) -> None:
    ran: list[str] = []
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(device.thread.run(device.hang, LONG_MS))
        await device.begun()
        with pytest.raises(Unavailable, match="device_busy"):
            await device.thread.run(lambda _session: ran.append("too late"), SHORT_MS)
        device.comes_back.set()
        await hanging
    await device.thread.run(Session.touch, LONG_MS)
    assert ran == []


async def test_callers_behind_a_hanging_call_are_served_by_a_fresh_thread(device: Device) -> None:
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(outcome(device, SHORT_MS))
        await device.begun()
        waiting = group.create_task(device.thread.run(lambda _session: "served", LONG_MS))
    assert (hanging.result(), waiting.result()) == ("unknown", "served")


async def test_full_queue_is_unavailable_at_once(device: Device) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(device.thread.run(device.hang, LONG_MS))
        await device.begun()
        for _ in range(QUEUE_DEPTH_MAX):
            group.create_task(device.thread.run(Session.touch, LONG_MS))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="device_queue_full"):
            await device.thread.run(Session.touch, LONG_MS)
        device.comes_back.set()


async def test_number_of_hanging_threads_is_bounded(device: Device) -> None:
    for _ in range(RETIRED_MAX):
        assert await outcome(device, SHORT_MS) == "unknown"
    with pytest.raises(Unavailable, match="device_hung"):
        await device.thread.run(Session.touch, LONG_MS)
    device.comes_back.set()
    for session in device.sessions:
        await asyncio.to_thread(session.is_closed.wait)
    assert await retried(device) == "served"


async def test_cancelled_caller_leaves_at_once_and_its_hanging_call_is_retired_by_the_next(device: Device) -> None:
    async with asyncio.TaskGroup() as group:
        caller = group.create_task(device.thread.run(device.hang, SHORT_MS))
        await device.begun()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        with pytest.raises(Unavailable, match="device_busy"):
            await device.thread.run(Session.touch, 2 * SHORT_MS)
    assert await device.thread.run(lambda _session: "served", LONG_MS) == "served"


async def test_driver_error_is_translated_and_the_session_stays(device: Device) -> None:
    with pytest.raises(Unavailable, match="device_away: busy"):
        await device.thread.run(raiser(DeviceError("busy")), LONG_MS)
    await device.thread.run(Session.touch, LONG_MS)
    assert len(device.sessions) == 1


async def test_fatal_error_closes_the_session_and_the_next_call_gets_a_new_one(device: Device) -> None:
    with pytest.raises(Unavailable):
        await device.thread.run(raiser(DeadDeviceError("gone")), LONG_MS)
    await device.thread.run(Session.touch, LONG_MS)
    assert [session.is_closed.is_set() for session in device.sessions] == [True, False]


async def test_failed_opening_is_an_error_of_the_call_and_is_tried_again(device: Device) -> None:
    device.opening_fails = True
    with pytest.raises(Unavailable, match="no such device"):
        await device.thread.run(Session.touch, LONG_MS)
    device.opening_fails = False
    await device.thread.run(Session.touch, LONG_MS)


async def test_error_that_is_not_the_drivers_stays_what_it_is(device: Device) -> None:
    with pytest.raises(ZeroDivisionError):
        await device.thread.run(raiser(ZeroDivisionError()), LONG_MS)


async def test_closed_thread_closes_its_session_and_takes_no_calls(device: Device) -> None:
    await device.thread.run(Session.touch, LONG_MS)
    await device.thread.close()
    assert device.sessions[0].is_closed.is_set()
    with pytest.raises(Unavailable, match="device_closed"):
        await device.thread.run(Session.touch, LONG_MS)


async def test_closing_refuses_the_callers_that_wait(device: Device) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(device.thread.run(device.hang, LONG_MS))
        await device.begun()
        waiting = group.create_task(outcome(device, LONG_MS))
        await asyncio.sleep(0)
        device.comes_back.set()
        await device.thread.close()
    assert waiting.result() in {"late", "unavailable"}  # it may have begun just before the door closed


def raiser(error: Exception) -> Callable[[Session], None]:
    def work(_session: Session) -> None:
        raise error

    return work


async def outcome(device: Device, deadline_ms: int) -> str:
    try:
        return await device.thread.run(device.hang, deadline_ms)
    except OutcomeUnknown:
        return "unknown"
    except Unavailable:
        return "unavailable"


async def retried(device: Device) -> str:
    """A thread that closed its session still needs a moment to end."""
    while True:
        try:
            return await device.thread.run(lambda _session: "served", LONG_MS)
        except Unavailable:
            await asyncio.sleep(0)
