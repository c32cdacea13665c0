"""What a stranger's connections do to a shop: nothing that a till would notice."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from appliance.model.limits import CONNECTIONS_MAX
from appliance.runtime.process import raise_descriptor_limit
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Till

FLOOD = 2_000


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if raise_descriptor_limit() < FLOOD + 200:
        pytest.skip(f"the hard limit of open files is below {FLOOD + 200}")
    with running_box(tmp_path_factory.mktemp("shop")) as running:
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def flood(box: RunningBox, count: int, *, source: str) -> Iterator[list[socket.socket]]:
    """`count` connections that say nothing, from the address `source`."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", box.port), 30, (source, 0)))
            for _ in range(count)
        ]


def test_till_sells_during_a_flood_from_its_own_address(box: RunningBox, till: Till) -> None:
    with flood(box, FLOOD, source="127.0.0.1"):
        assert till.ask("payment", CASH).status == 200
        assert len(os.listdir(f"/proc/{box.pid}/fd")) < CONNECTIONS_MAX
        status, page = box.public("/metrics")
        assert status == 200
        assert b"tillstone_connections_displaced_total 0.0" not in page
    assert till.ask("payment", CASH).status == 200


def test_till_at_another_address_keeps_its_connection(box: RunningBox, till: Till) -> None:
    with box.connect() as connection:
        connection.sendall(b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with flood(box, FLOOD, source="127.0.0.2"):
            connection.sendall(b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_handshake_that_never_begins_is_ended(box: RunningBox) -> None:
    # Well before a silent connection is, and before the minute that the library would wait.
    with flood(box, 1, source="127.0.0.1") as (stranger,):
        assert stranger.recv(1) == b""
