"""Who makes room at a full door."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from appliance.api.connection import Connection
from appliance.api.crowd import Crowd
from appliance.api.failures import Failures
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from tests.fakes.clock import FakeClock


class Guest(Connection):
    """A connection whose behaviour a test sets."""

    is_idle = True
    has_spoken = False
    silent_since = 0.0


class Hall:
    """A crowd with the far ends of its guests."""

    def __init__(self) -> None:
        self.displaced = 0
        self.crowd = Crowd(total_max=4, address_max=2, on_displaced=self._count)
        self._server = web.Server(_never_asked)
        clock = FakeClock()
        self._failures = Failures(clock=clock, log=Log(sink=_drop, clock=clock), metrics=Metrics(), on_corrupt=_drop)
        self._ends: list[socket.socket] = []

    def guest(
        self, address: str, *, is_idle: bool = True, spoke_at: float | None = None
    ) -> tuple[Guest, socket.socket]:
        near, far = socket.socketpair()
        self._ends += [near, far]
        far.setblocking(False)
        guest = Guest(
            self._server,
            accepted=near,
            address=address,
            silence_s_max=75,
            failures=self._failures,
            left=self.crowd.leave,
        )
        guest.is_idle = is_idle
        guest.has_spoken = spoke_at is not None
        guest.silent_since = spoke_at or 0.0
        return guest, far

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def _count(self) -> None:
        self.displaced += 1


def _drop(_text: str) -> None:
    pass


async def _never_asked(_request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    made = Hall()
    yield made
    made.close()


def is_ended(far: socket.socket) -> bool:
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False


async def test_address_with_its_share_displaces_none_but_itself(hall: Hall) -> None:
    other, other_end = hall.guest("10.0.0.9")
    first, first_end = hall.guest("10.0.0.1")
    second, second_end = hall.guest("10.0.0.1")
    third, _ = hall.guest("10.0.0.1")
    assert all(hall.crowd.admit(each) for each in (other, first, second, third))
    assert (is_ended(other_end), is_ended(first_end), is_ended(second_end)) == (False, True, False)
    assert (len(hall.crowd), hall.displaced) == (3, 1)


async def test_who_never_spoke_makes_room_before_who_did_and_then_the_longest_silent(hall: Hall) -> None:
    guests = [
        hall.guest("10.0.0.1", spoke_at=7.0),
        hall.guest("10.0.0.2", spoke_at=5.0),
        hall.guest("10.0.0.3"),
        hall.guest("10.0.0.4", is_idle=False),
    ]
    for each, _ in guests:
        assert hall.crowd.admit(each)
    ended = []
    for address in ("10.0.0.5", "10.0.0.6", "10.0.0.7"):
        assert hall.crowd.admit(hall.guest(address, is_idle=False)[0])
        ended.append([is_ended(end) for _, end in guests])
    assert ended[0] == [False, False, True, False]
    assert ended[1] == [False, True, True, False]
    assert ended[2] == [True, True, True, False]


async def test_requests_at_work_are_never_displaced(hall: Hall) -> None:
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"):
        assert hall.crowd.admit(hall.guest(address, is_idle=False)[0])
    assert not hall.crowd.admit(hall.guest("10.0.0.1")[0])
    assert not hall.crowd.admit(hall.guest("10.0.0.3")[0])
    assert (len(hall.crowd), hall.displaced) == (4, 0)


async def test_leaving_twice_frees_one_place(hall: Hall) -> None:
    guest, _ = hall.guest("10.0.0.1")
    stays, _ = hall.guest("10.0.0.1")
    assert hall.crowd.admit(guest)
    assert hall.crowd.admit(stays)
    hall.crowd.leave(guest)
    hall.crowd.leave(guest)
    assert len(hall.crowd) == 1
