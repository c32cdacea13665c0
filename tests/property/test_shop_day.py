"""Laws of the shop day: whatever the zone does with its clock, days divide time without gap or overlap."""

from __future__ import annotations

import datetime
import zoneinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.model.shop_day import ShopCalendar

ZONES = sorted(zoneinfo.available_timezones() - {"localtime"})
CUT_OFFS = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))
INSTANTS = st.integers(30 * DAY_MS, 4_102_444_800_000)  # 1970 to 2100
CALENDARS = st.builds(
    lambda zone, cut_off: ShopCalendar(zone=ZoneInfo(zone), cut_off=cut_off), st.sampled_from(ZONES), CUT_OFFS
)
BERLIN = ZoneInfo("Europe/Berlin")


@given(CALENDARS, INSTANTS)
def test_every_instant_belongs_to_its_day_and_to_no_other(calendar: ShopCalendar, now_ms: int) -> None:
    day = calendar.day_of(now_ms)
    assert day.begins_ms <= now_ms < day.ends_ms
    assert calendar.day_of(day.begins_ms) == day
    assert calendar.day_of(day.ends_ms - 1) == day
    assert calendar.day_of(day.ends_ms) != day


@given(CALENDARS, INSTANTS)
def test_days_follow_each_other_without_gap_or_overlap(calendar: ShopCalendar, now_ms: int) -> None:
    day = calendar.day_of(now_ms)
    assert calendar.next(day).begins_ms == day.ends_ms
    assert calendar.previous(day).ends_ms == day.begins_ms
    assert calendar.previous(calendar.next(day)) == day
    assert calendar.next(day).ends_ms >= day.ends_ms, "a date that the zone skipped is empty, never negative"


@given(CUT_OFFS, st.dates(datetime.date(1997, 1, 1), datetime.date(2037, 1, 1)))
def test_a_day_in_berlin_has_23_24_or_25_hours_and_a_year_has_all_of_its_hours(
    cut_off: str, date: datetime.date
) -> None:
    calendar = ShopCalendar(zone=BERLIN, cut_off=cut_off)
    day = calendar.day(date)
    assert (day.ends_ms - day.begins_ms) % HOUR_MS == 0
    assert (day.ends_ms - day.begins_ms) // HOUR_MS in (23, 24, 25)
    january, following = (calendar.day(datetime.date(date.year + year, 1, 15)) for year in (0, 1))
    assert (following.begins_ms - january.begins_ms) // HOUR_MS == 24 * (following.date - january.date).days


@pytest.mark.parametrize(
    ("date", "cut_off", "begins"),
    [
        ("2026-03-29", "04:00", "2026-03-29T02:00+00:00"),
        ("2026-03-29", "02:30", "2026-03-29T01:30+00:00"),  # skipped: 03:30 on the new clock
        ("2026-10-25", "02:30", "2026-10-25T00:30+00:00"),  # shown twice: the first of them
        ("2026-10-25", "03:00", "2026-10-25T02:00+00:00"),
    ],
)
def test_cut_off_that_the_clock_skips_or_shows_twice_is_one_moment(date: str, cut_off: str, begins: str) -> None:
    day = ShopCalendar(zone=BERLIN, cut_off=cut_off).day(datetime.date.fromisoformat(date))
    assert day.begins_ms == datetime.datetime.fromisoformat(begins).timestamp() * 1_000
