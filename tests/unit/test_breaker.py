"""A lost device is tried again, ever less often, one caller at a time."""

from __future__ import annotations

import pytest

from appliance.adapters.breaker import BackOff, Breaker
from appliance.model.errors import Unavailable
from tests.fakes.clock import FakeClock

BACK_OFF = BackOff(first_ms=100, cap_ms=1_000)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> Breaker:
    return Breaker(device="the device", clock=clock, random=lambda: 0.999, back_off=BACK_OFF)


def test_closed_breaker_lets_calls_through(breaker: Breaker) -> None:
    breaker.admit()
    assert (breaker.state, breaker.reason) == ("closed", "")


def test_failure_makes_the_device_rest_and_names_the_reason(breaker: Breaker) -> None:
    breaker.failed("it is gone")
    with pytest.raises(Unavailable, match="it is gone"):
        breaker.admit()


def test_one_trial_is_let_through_after_the_rest(breaker: Breaker, clock: FakeClock) -> None:
    breaker.failed("it is gone")
    clock.pass_time(BACK_OFF.first_ms)
    breaker.admit()
    assert breaker.state == "half_open"
    with pytest.raises(Unavailable):
        breaker.admit()


def test_successful_trial_closes(breaker: Breaker, clock: FakeClock) -> None:
    breaker.failed("it is gone")
    clock.pass_time(BACK_OFF.first_ms)
    breaker.admit()
    breaker.succeeded()
    breaker.admit()
    assert (breaker.state, breaker.reason) == ("closed", "")


def test_trial_without_an_answer_leaves_the_trial_to_the_next(breaker: Breaker, clock: FakeClock) -> None:
    breaker.failed("it is gone")
    clock.pass_time(BACK_OFF.first_ms)
    breaker.admit()
    breaker.gave_up_trial()
    breaker.admit()
    assert breaker.state == "half_open"


def test_held_breaker_never_opens_again(breaker: Breaker, clock: FakeClock) -> None:
    breaker.hold("the PIN was refused")
    breaker.succeeded()
    breaker.failed("something else")
    clock.pass_time(10 * BACK_OFF.cap_ms)
    with pytest.raises(Unavailable, match="the PIN was refused"):
        breaker.admit()


@pytest.mark.parametrize(
    ("failure_count", "rest_ms"), [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (99, 1_000)]
)
def test_rest_doubles_up_to_the_cap_and_jitter_spreads_its_upper_half(failure_count: int, rest_ms: int) -> None:
    assert BACK_OFF.after(failure_count, 0.0) == rest_ms // 2
    assert rest_ms // 2 <= BACK_OFF.after(failure_count, 0.5) < BACK_OFF.after(failure_count, 0.999) <= rest_ms
