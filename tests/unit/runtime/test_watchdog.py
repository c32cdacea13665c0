"""The service manager hears from a loop that lives; a loop that stands still is counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import supervised
from appliance.runtime.watchdog import ServiceManager, Watchdog
from tests.fakes.clock import FakeClock
from tests.unit.runtime.lines import Lines


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4_096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def environment(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(manager.socket.getsockname()), **more}


def test_states_reach_the_manager(manager: Manager) -> None:
    notifier = ServiceManager(environment(manager))
    notifier.ready()
    notifier.status("selling\nREADY=0")
    notifier.stopping()
    assert manager.heard() == ["READY=1", "STATUS=selling READY=0", "STOPPING=1"]


def test_abstract_address_is_understood() -> None:
    name = f"tillstone-{id(object()):x}"
    manager = Manager("\0" + name)
    ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready()
    assert manager.heard() == ["READY=1"]
    manager.socket.close()


@pytest.mark.parametrize("found", [{}, {"NOTIFY_SOCKET": "/nonexistent/notify"}, {"WATCHDOG_USEC": "soon"}])
def test_missing_manager_is_not_an_error(found: dict[str, str]) -> None:
    notifier = ServiceManager(found)
    notifier.ready()
    assert notifier.keep_alive_every_ms == 0


async def test_keep_alive_is_sent_at_half_the_managers_patience(manager: Manager) -> None:
    clock = FakeClock()
    notifier = ServiceManager(environment(manager, WATCHDOG_USEC="2000000"))
    watchdog = Watchdog(manager=notifier, clock=clock, metrics=Metrics(), log=Lines().log)
    async with supervised(log=Lines().log, clock=clock) as supervisor:
        supervisor.start("watchdog", watchdog.run)
        await clock.advance(10_000)
        supervisor.stop("test")
    assert 10 <= len(manager.heard()) <= 12


async def test_loop_that_stands_still_is_counted_and_named() -> None:
    clock, lines, metrics = FakeClock(), Lines(), Metrics()
    watchdog = Watchdog(manager=ServiceManager({}), clock=clock, metrics=metrics, log=lines.log)
    async with supervised(log=lines.log, clock=clock) as supervisor:
        supervisor.start("watchdog", watchdog.run)
        await clock.advance(1_000)
        assert b"tillstone_loop_blocked_total 0.0" in metrics.render()
        # Time passes while nobody runs: that is what a blocked loop looks like.
        clock.pass_time(180)
        await clock.advance(100)
        await asyncio.sleep(0)
        supervisor.stop("test")
    assert b"tillstone_loop_blocked_total 1.0" in metrics.render()
    assert lines.events[0] == "loop.blocked"
