"""Whose key it is: asked of the twin through the real SDK; what a shop is told, and what it is never told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.adapters.stripe_account import AGAIN_MS, AccountWatch
from appliance.adapters.stripe_session import StripeSession, StripeSettings
from appliance.config.secret import Secret
from appliance.device.health import Level
from appliance.runtime.log import Log
from appliance.runtime.supervise import supervised
from appliance.wiring.cards import account_finding
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName, Outage
from tests.fakes.clock import FakeClock
from tests.stripe_twin_here import KEY, TwinHere


@pytest.fixture
async def twin() -> AsyncIterator[TwinHere]:
    async with TwinHere() as here:
        yield here


async def watch(twin: TwinHere, key: str, expected: str) -> tuple[AccountWatch, StripeSession]:
    settings = StripeSettings(api_base=twin.base, api_key=Secret(key.encode()))
    session = await StripeSession.open(settings=settings, clock=twin.clock)
    log = Log(sink=lambda _line: None, clock=twin.clock)
    return AccountWatch(session=session, expected=expected, clock=twin.clock, log=log), session


@pytest.mark.parametrize(
    ("key", "names_it", "kind", "level"),
    [
        (KEY, True, "ok", Level.OK),
        (KEY, False, "unnamed", Level.OK),
        ("sk_test_ofAstranger", True, "foreign", Level.COPING),
        ("sk_test_1revoked", True, "refused", Level.COPING),
        ("rk_test_1blind", True, "unreadable", Level.COPING),
    ],
)
async def test_health_names_the_provider_and_what_is_wrong_and_never_the_key(
    twin: TwinHere, key: str, names_it: bool, kind: str, level: Level
) -> None:
    watching, session = await watch(twin, key, twin.store.account_id() if names_it else "")
    state = await watching.ask()
    await session.close()
    assert state.kind == kind
    assert state.is_wrong is (kind in ("foreign", "refused"))
    hers = f"{twin.store.account_id()} test"
    assert (state.account == hers) is (kind in ("ok", "unnamed"))
    assert (state.account is None) is (kind in ("refused", "unreadable"))
    finding = account_finding(state)
    assert finding.level is level
    assert "Stripe" in finding.sentence
    assert key not in repr((state, finding))
    assert bool(finding.next_step) is (level is not Level.OK)


@pytest.mark.parametrize(
    "fault", ["drop_request", "drop_reply", "truncated_json", "error_then_success", "rate_limited"]
)
async def test_only_a_plain_answer_counts(twin: TwinHere, fault: FaultName) -> None:
    watching, session = await watch(twin, KEY, "acct_ofSomebodyElse")
    # More than once: the HTTP library reads again by itself when a connection breaks.
    twin.twin.faults.add(Fault(fault=fault, path="/v1/account", times=9))
    state = await watching.ask()
    assert (state.kind, state.is_wrong) == ("away", False)
    twin.twin.faults.clear()
    assert (await watching.ask()).kind == "foreign"
    await session.close()


async def test_an_outage_at_the_start_is_waited_for_and_a_verdict_outlives_the_next_one(twin: TwinHere) -> None:
    assert isinstance(twin.clock, FakeClock)
    clock = twin.clock
    watching, session = await watch(twin, KEY, twin.store.account_id())
    twin.twin.faults.set_outage(Outage(is_on=True), clock.now_ms())
    async with supervised(log=Log(sink=lambda _line: None, clock=clock), clock=clock) as supervisor:
        supervisor.start("card account", watching.run)

        async def until(kind: str) -> None:
            for _ in range(1_000):
                if watching.state.kind == kind:
                    return
                await clock.advance(AGAIN_MS // 60)
            raise AssertionError(watching.state)

        await until("away")
        twin.twin.faults.clear()
        await until("ok")
        twin.twin.faults.set_outage(Outage(is_on=True), clock.now_ms())
        for _ in range(130):
            await clock.advance(AGAIN_MS // 60)
        assert watching.state.kind == "ok"
        supervisor.stop("the test is over")
    await session.close()
