"""Owns the promises of windows and rules: exact at their limits, bounded in memory, right across midnight."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.config.screening import Screening
from appliance.model.errors import Rejected
from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.payment.screening.activity import TERMINALS_MAX, Activity, TerminalActivity
from appliance.payment.screening.features import FEATURES, Asked, features_of
from appliance.payment.screening.rules import reasons
from appliance.payment.screening.thresholds import changed, still_valid
from appliance.payment.screening.window import Window

NOON = 1_790_000_000_000 // HOUR_MS * HOUR_MS


def asked(**members: Any) -> Asked:
    fixed = {"at_ms": NOON, "minute": 720, "amount_minor": 1000, "currency": "EUR", "is_card": False}
    return Asked(**{**fixed, **members})


def spoken(what: Asked, activity: TerminalActivity, **thresholds: Any) -> list[tuple[str, int, int]]:
    return [(each.rule.value, each.seen, each.limit) for each in reasons(what, activity, Screening(**thresholds))]


def test_a_window_counts_its_span_forgets_the_rest_and_takes_back() -> None:
    window = Window(slot_ms=MINUTE_MS, slots=61)
    for minute in range(120):
        window.add(NOON + minute * MINUTE_MS, 10)
    now = NOON + 119 * MINUTE_MS
    assert window.within(now, 10 * MINUTE_MS) == (11, 110)
    assert window.within(now, HOUR_MS) == (61, 610)
    assert window.within(now + HOUR_MS, HOUR_MS) == (1, 10)
    assert window.within(now + 2 * HOUR_MS, HOUR_MS) == (0, 0)
    window.add(now, 10, -1)
    assert window.within(now, 0) == (0, 0)
    window.add(NOON, 10)  # long past: it must not land in the slot of a later hour
    assert window.within(now, HOUR_MS) == (60, 600)


def test_who_was_away_longest_is_forgotten_first() -> None:
    activity = Activity()
    first = activity.of("till-0")
    for number in range(TERMINALS_MAX):
        activity.of("till-0")
        activity.of(f"till-{number}")
    assert activity.of("till-0") is first
    second = activity.of("till-1")
    for number in range(TERMINALS_MAX, 2 * TERMINALS_MAX):
        activity.of(f"till-{number}")
    assert activity.of("till-1") is not second


@pytest.mark.parametrize(("sold", "expected"), [(1, []), (2, [("velocity", 3, 2)])])
def test_velocity_speaks_above_its_limit(sold: int, expected: list[tuple[str, int, int]]) -> None:
    activity = TerminalActivity()
    for _ in range(sold):
        activity.sold(NOON - 5 * MINUTE_MS, 100)
    assert spoken(asked(), activity, velocity_sales_max=2) == expected
    assert spoken(asked(), activity, velocity_sales_max=2, velocity_mode="off") == []
    assert spoken(asked(), activity, velocity_sales_max=2, velocity_window_minutes=4) == []
    assert spoken(asked(is_refund=True), activity, velocity_sales_max=1) == []


def test_ceilings_speak_above_their_limit() -> None:
    activity = TerminalActivity()
    assert spoken(asked(), activity, sale_ceiling_minor=1000) == []
    assert spoken(asked(), activity, sale_ceiling_minor=999) == [("sale_ceiling", 1000, 999)]
    activity.sold(NOON - 59 * MINUTE_MS, 500)
    assert spoken(asked(), activity, hour_ceiling_minor=1500) == []
    assert spoken(asked(), activity, hour_ceiling_minor=1499) == [("hour_ceiling", 1500, 1499)]


def test_offline_exposure_speaks_of_cards_at_a_pad_alone() -> None:
    activity = TerminalActivity()
    assert spoken(asked(exposed_minor=1500), activity, offline_exposure_minor=1500) == []
    told = spoken(asked(exposed_minor=1500), activity, offline_exposure_minor=1499)
    assert told == [("offline_exposure", 1500, 1499)]


def test_refund_velocity_speaks_of_refunds_alone() -> None:
    activity = TerminalActivity()
    activity.refunded(NOON - HOUR_MS, 100)
    assert spoken(asked(is_refund=True), activity, refund_velocity_max=2) == []
    assert spoken(asked(is_refund=True), activity, refund_velocity_max=1) == [("refund_velocity", 2, 1)]
    assert spoken(asked(), activity, refund_velocity_max=1) == []


@pytest.mark.parametrize(
    ("opens", "closes", "minute", "speaks"),
    [
        ("08:00", "20:00", 8 * 60, False),
        ("08:00", "20:00", 20 * 60, True),
        ("08:00", "20:00", 8 * 60 - 1, True),
        ("18:00", "03:00", 2 * 60 + 59, False),
        ("18:00", "03:00", 3 * 60, True),
        ("00:00", "00:00", 3 * 60, False),
    ],
)
def test_hours_hold_past_midnight(opens: str, closes: str, minute: int, speaks: bool) -> None:
    for is_refund in (False, True):
        what = asked(minute=minute, is_refund=is_refund)
        assert bool(spoken(what, TerminalActivity(), hours_open=opens, hours_close=closes)) is speaks


def test_features_are_as_many_as_their_names_and_know_the_past() -> None:
    activity = TerminalActivity()
    activity.sold(NOON - 2 * MINUTE_MS, 500)
    seen = dict(zip(FEATURES, features_of(asked(), activity), strict=True))
    assert (seen["amount_ratio"], seen["is_round"], seen["hour"]) == (2.0, 1.0, 12.0)
    assert (seen["seconds_since_sale"], seen["sales_10_minutes"], seen["amount_hour_ratio"]) == (120.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"velocity_sales_max": 0}, "threshold_invalid"),
        ({"velocity_sales_max": "many"}, "threshold_invalid"),
        ({"velocity_mode": "block"}, "threshold_invalid"),
        ({"hours_open": "25:00"}, "threshold_invalid"),
        ({"model_path": "/etc/passwd"}, "threshold_unknown"),
        ({"velocity": 1}, "threshold_unknown"),
    ],
)
def test_what_cannot_be_set_is_refused(changes: dict[str, int | str], code: str) -> None:
    with pytest.raises(Rejected, match=code):
        changed(Screening(), changes)


def test_a_recorded_change_that_a_release_no_longer_takes_is_passed_over() -> None:
    after = still_valid(Screening(), {"velocity_sales_max": 5, "no_longer_there": 1, "hours_open": "25:00"})
    assert after == msgspec.structs.replace(Screening(), velocity_sales_max=5)
