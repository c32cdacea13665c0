"""What is believed of the wall clock: bounded from below always, from above while the power stayed on."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.model.trusted_time import TOLERANCE_MS, Mark, PlatformClock, Proof, judge

NOON_MS = 1_790_000_000_000
POWERED_MS = 7 * DAY_MS


def mark(wall_ms: int = NOON_MS, *, resets: int = 5) -> Mark:
    return Mark(wall_ms=wall_ms, platform=PlatformClock(powered_ms=POWERED_MS, resets=resets, is_safe=True))


def platform(elapsed_ms: int, *, resets: int = 5, is_safe: bool = True) -> PlatformClock:
    return PlatformClock(powered_ms=POWERED_MS + elapsed_ms, resets=resets, is_safe=is_safe)


def test_flat_battery_is_seen_against_the_log_alone() -> None:
    found = judge(wall_ms=946_684_800_000, logged_ms=NOON_MS, mark=None, platform=None)
    assert (found.floor_ms, found.proof) == (NOON_MS, Proof.LOG)
    assert found.step_ms == 946_684_800_000 - NOON_MS


def test_clock_set_back_to_a_time_behind_the_log_is_seen_by_what_the_tpm_counted() -> None:
    found = judge(wall_ms=NOON_MS + HOUR_MS, logged_ms=NOON_MS, mark=mark(), platform=platform(10 * HOUR_MS, resets=6))
    assert (found.floor_ms, found.proof) == (NOON_MS + 10 * HOUR_MS * 100 // 115, Proof.TPM)
    assert found.step_ms == HOUR_MS - 10 * HOUR_MS * 100 // 115


def test_clock_set_ahead_is_proven_only_while_the_power_stayed_on() -> None:
    ahead = partial(judge, wall_ms=NOON_MS + 3 * DAY_MS, logged_ms=NOON_MS, mark=mark())
    found = ahead(platform=platform(HOUR_MS))
    assert found.step_ms == 3 * DAY_MS - HOUR_MS * 100 // 85 - TOLERANCE_MS
    after_a_cut = ahead(platform=platform(HOUR_MS, resets=6))
    assert after_a_cut.step_ms == 0
    assert after_a_cut.unproven_ms == 3 * DAY_MS - HOUR_MS * 100 // 115


def test_tpm_that_was_cleared_or_another_one_proves_nothing() -> None:
    other = PlatformClock(powered_ms=MINUTE_MS, resets=0, is_safe=True)
    found = judge(wall_ms=NOON_MS + HOUR_MS, logged_ms=NOON_MS, mark=mark(), platform=other)
    assert (found.floor_ms, found.step_ms) == (NOON_MS, 0)


def test_small_corrections_are_no_step() -> None:
    for off_ms in (-TOLERANCE_MS, 0, TOLERANCE_MS):
        found = judge(wall_ms=NOON_MS + off_ms, logged_ms=NOON_MS, mark=mark(), platform=platform(0))
        assert found.step_ms == 0


@given(
    elapsed_ms=st.integers(0, 400 * DAY_MS),
    off_ms=st.integers(0, 400 * DAY_MS),
    rate_permille=st.integers(850, 1_150),
    logged_after_ms=st.integers(0, HOUR_MS),
)
def test_right_clock_is_never_doubted_whatever_the_tpms_rate(
    elapsed_ms: int, off_ms: int, rate_permille: int, logged_after_ms: int
) -> None:
    """Powered for `elapsed_ms` of real time, then off for `off_ms`; the TPM counts at its own rate, not while off."""
    counted_ms = elapsed_ms * rate_permille // 1_000
    wall_ms = NOON_MS + elapsed_ms + off_ms
    found = judge(
        wall_ms=wall_ms,
        logged_ms=min(NOON_MS + logged_after_ms, NOON_MS + elapsed_ms),
        mark=mark(),
        platform=platform(counted_ms, resets=6 if off_ms else 5, is_safe=not off_ms),
    )
    assert found.step_ms == 0
    assert found.floor_ms <= wall_ms
    assert found.unproven_ms <= (wall_ms - NOON_MS if off_ms else 0)
