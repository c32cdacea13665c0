"""The shop day: from one cut-off on the shop's wall clock to the next, in the shop's IANA zone. Pure.

* Every instant belongs to exactly one day; days follow each other without gap or overlap, also where the clock changes:
  such a day lasts an hour more or less than 24.
* A cut-off that the clock skips counts as if the clock had not been changed yet (02:30 falls on 03:30 of the new time);
  one that it shows twice is the first of the two. This is what PEP 495 says of `fold=0`.
* A day is named by the date on which it begins: a bar's Saturday ends on Sunday morning.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from appliance.model.invariants import ensure

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY: Final = datetime.timedelta(days=1)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)
_LATEST_MS: Final = 250_000_000_000_000  # the year 9892; `datetime` ends with 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopDay:
    """One day of a shop: instants from `begins_ms`, before `ends_ms`."""

    date: datetime.date
    begins_ms: int
    ends_ms: int

    def __str__(self) -> str:
        return self.date.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopCalendar:
    """The days of one shop.

    Attributes:
        cut_off: `HH:MM` on the wall clock of `zone`.
    """

    zone: ZoneInfo
    cut_off: str

    def day_of(self, now_ms: int) -> ShopDay:
        """The day that the instant belongs to."""
        ensure(0 <= now_ms < _LATEST_MS, "an instant lies between 1970 and the end of the calendar")
        date = (_EPOCH + now_ms * _MILLISECOND).astimezone(self.zone).date()
        while self._begins_ms(date) > now_ms:
            date -= _DAY
        while self._begins_ms(date + _DAY) <= now_ms:
            date += _DAY
        return self.day(date)

    def day(self, date: datetime.date) -> ShopDay:
        """The day that begins on `date`; it is empty where the zone skipped a whole date."""
        return ShopDay(date=date, begins_ms=self._begins_ms(date), ends_ms=self._begins_ms(date + _DAY))

    def next(self, day: ShopDay) -> ShopDay:
        """The day after `day`."""
        return self.day(day.date + _DAY)

    def previous(self, day: ShopDay) -> ShopDay:
        """The day before `day`."""
        return self.day(day.date - _DAY)

    def _begins_ms(self, date: datetime.date) -> int:
        wall = datetime.datetime.combine(date, datetime.time.fromisoformat(self.cut_off), tzinfo=self.zone)
        return (wall - _EPOCH) // _MILLISECOND
