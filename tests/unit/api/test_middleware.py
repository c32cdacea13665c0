"""Around every handler: what of an error leaves the box, and what it stops."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from appliance.api.failures import Failures
from appliance.api.middleware import make_middleware
from appliance.model.errors import Bug, Corrupt, OutcomeUnknown, Rejected, Unavailable
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from tests.fakes.clock import FakeClock

SECRET = "4242424242424242"


class Answered:
    """What a door says and does when its handler raises."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.corrupt: list[str] = []

    async def to(self, error: Exception) -> tuple[int, dict[str, object]]:
        async def handler(_request: web.Request) -> web.StreamResponse:
            raise error

        clock = FakeClock()
        log = Log(sink=self.lines.append, clock=clock)
        metrics = Metrics()
        failures = Failures(clock=clock, log=log, metrics=metrics, on_corrupt=self.corrupt.append)
        application = web.Application(middlewares=[make_middleware(failures=failures, metrics=metrics)])
        application.router.add_get("/", handler, name="payment")
        async with TestClient(TestServer(application)) as client:
            response = await client.get("/")
            return response.status, json.loads(await response.read())


@pytest.mark.parametrize("error", [Bug("append_failed", SECRET), ValueError(SECRET), KeyError(SECRET)])
async def test_error_of_our_own_is_opaque_and_found_again_in_the_log(error: Exception) -> None:
    answered = Answered()
    status, problem = await answered.to(error)
    assert (status, problem["code"]) == (500, "internal")
    assert SECRET not in json.dumps(problem)
    (line,) = answered.lines
    assert json.loads(line)["event_id"] == problem["event_id"]
    assert answered.corrupt == []


async def test_disordered_records_stop_the_sales() -> None:
    answered = Answered()
    status, problem = await answered.to(Corrupt("entry_missing", "entry 17"))
    assert (status, problem["code"]) == (503, "box_stopped")
    assert answered.corrupt == ["entry 17"]
    assert '"code":"entry_missing"' in answered.lines[0]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("tax_wrong", "x"), 422),
        (Unavailable("disk_low", "x"), 503),
        (OutcomeUnknown("commit_failed", "x"), 503),
        (web.HTTPNotFound(), 404),
        (web.HTTPMethodNotAllowed("GET", ["POST"]), 405),
        (web.HTTPRequestEntityTooLarge(1, 2), 413),
    ],
)
async def test_refusal_keeps_its_status(error: Exception, status: int) -> None:
    answered = Answered()
    assert (await answered.to(error))[0] == status
    assert answered.corrupt == []
