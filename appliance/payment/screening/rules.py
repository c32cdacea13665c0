"""The rules, each a small function: what is asked and the terminal's last while in, a reason or nothing out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from appliance.config.screening import Screening
from appliance.model.limits import MINUTE_MS
from appliance.model.screening import Reason, Rule
from appliance.payment.screening.activity import SALES_SPAN_MS, TerminalActivity
from appliance.payment.screening.features import Asked

OFF: Final = "off"
REFUSE: Final = "refuse"
_Look: TypeAlias = Callable[[Asked, TerminalActivity, Screening], Reason | None]


def mode_of(rule: Rule, thresholds: Screening) -> str:
    """`off`, `watch` or `refuse`."""
    return str(getattr(thresholds, f"{rule}_mode"))


def reasons(asked: Asked, activity: TerminalActivity, thresholds: Screening) -> Iterator[Reason]:
    """Every rule that speaks."""
    for rule, look in _RULES.items():
        if mode_of(rule, thresholds) != OFF:
            reason = look(asked, activity, thresholds)
            if reason is not None:
                yield reason


def _velocity(asked: Asked, activity: TerminalActivity, thresholds: Screening) -> Reason | None:
    if asked.is_refund:
        return None
    count, _ = activity.sales.within(asked.at_ms, thresholds.velocity_window_minutes * MINUTE_MS)
    return _above(Rule.VELOCITY, count + 1, thresholds.velocity_sales_max)


def _sale_ceiling(asked: Asked, _activity: TerminalActivity, thresholds: Screening) -> Reason | None:
    return None if asked.is_refund else _above(Rule.SALE_CEILING, asked.amount_minor, thresholds.sale_ceiling_minor)


def _hour_ceiling(asked: Asked, activity: TerminalActivity, thresholds: Screening) -> Reason | None:
    if asked.is_refund:
        return None
    _, amount = activity.sales.within(asked.at_ms, SALES_SPAN_MS)
    return _above(Rule.HOUR_CEILING, amount + asked.amount_minor, thresholds.hour_ceiling_minor)


def _hours(asked: Asked, _activity: TerminalActivity, thresholds: Screening) -> Reason | None:
    opens, closes = _minute(thresholds.hours_open), _minute(thresholds.hours_close)
    # Counted from opening time, a night that goes past midnight is a day like any other.
    if opens == closes or (asked.minute - opens) % 1440 < (closes - opens) % 1440:
        return None
    return Reason(rule=Rule.HOURS, seen=asked.minute, limit=closes)


def _refund_velocity(asked: Asked, activity: TerminalActivity, thresholds: Screening) -> Reason | None:
    if not asked.is_refund:
        return None
    count, _ = activity.refunds.within(asked.at_ms, thresholds.refund_velocity_window_minutes * MINUTE_MS)
    return _above(Rule.REFUND_VELOCITY, count + 1, thresholds.refund_velocity_max)


def _offline_exposure(asked: Asked, _activity: TerminalActivity, thresholds: Screening) -> Reason | None:
    return _above(Rule.OFFLINE_EXPOSURE, asked.exposed_minor, thresholds.offline_exposure_minor)


_RULES: Final[dict[Rule, _Look]] = {
    Rule.HOURS: _hours,
    Rule.SALE_CEILING: _sale_ceiling,
    Rule.HOUR_CEILING: _hour_ceiling,
    Rule.VELOCITY: _velocity,
    Rule.REFUND_VELOCITY: _refund_velocity,
    Rule.OFFLINE_EXPOSURE: _offline_exposure,
}


def _above(rule: Rule, seen: int, limit: int) -> Reason | None:
    return Reason(rule=rule, seen=seen, limit=limit) if seen > limit else None


def _minute(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])
