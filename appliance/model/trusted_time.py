"""What the box may believe of its wall clock at a start: judged by the log's last time and by the TPM's clock.

Three clocks, none of which suffices: the wall clock can be set, CLOCK_MONOTONIC begins anew with each boot, the TPM's
clock stands still without power and runs up to 15 % off. Together they bound the time from below always, and from above
as long as the machine was not restarted. Time without power cannot be proven, so it counts as past: whatever expires
goes by the wall clock, which may only be later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RATE_ERROR_PERMILLE: Final = 150
"""TCG TPM 2.0 part 1, 36.3: the clock's rate is within 15 %."""
TOLERANCE_MS: Final = 60_000


class Proof(StrEnum):
    """Who contradicts the wall clock."""

    LOG = "log"
    TPM = "tpm"
    OPERATOR = "operator"  # who accepts it as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformClock:
    """A reading of the TPM's clock; `drivers/tpm/clock.py` says what its members promise."""

    powered_ms: int
    resets: int
    is_safe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment at which wall and platform clock were read together, as the log has it."""

    wall_ms: int
    platform: PlatformClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a start found.

    Attributes:
        floor_ms: it is at least so late.
        step_ms: how far the wall clock is outside of what can be; negative: set back; 0: nothing speaks against it.
        proof: who says so.
        unproven_ms: time since the floor that may have passed without power, and that nobody can prove.
    """

    floor_ms: int
    step_ms: int = 0
    proof: Proof = Proof.LOG
    unproven_ms: int = 0


def judge(*, wall_ms: int, logged_ms: int, mark: Mark | None, platform: PlatformClock | None) -> Judged:
    """Compare the wall clock with everything that is known.

    Args:
        logged_ms: time of the log's newest entry.
        mark: the newest one; None in a log of before there were any.
        platform: read now; None without a TPM, or while it is away.
    """
    if mark is None or platform is None or platform.powered_ms < mark.platform.powered_ms:
        return _against_log(wall_ms, logged_ms)
    elapsed_ms = platform.powered_ms - mark.platform.powered_ms
    counted_ms = mark.wall_ms + elapsed_ms * 1_000 // (1_000 + RATE_ERROR_PERMILLE)
    if counted_ms <= logged_ms:
        floor = _against_log(wall_ms, logged_ms)
    else:
        step_ms = wall_ms - counted_ms
        floor = Judged(floor_ms=counted_ms, step_ms=_beyond(step_ms), proof=Proof.TPM)
    if floor.step_ms:
        return floor
    if platform.resets != mark.platform.resets:
        return Judged(floor_ms=floor.floor_ms, unproven_ms=max(0, wall_ms - floor.floor_ms))
    # Powered all the time: what the TPM counted is also the most that can have passed.
    latest_ms = mark.wall_ms + elapsed_ms * 1_000 // (1_000 - RATE_ERROR_PERMILLE) + TOLERANCE_MS
    return Judged(floor_ms=floor.floor_ms, step_ms=max(0, wall_ms - latest_ms), proof=Proof.TPM)


def _against_log(wall_ms: int, logged_ms: int) -> Judged:
    return Judged(floor_ms=logged_ms, step_ms=_beyond(wall_ms - logged_ms))


def _beyond(step_ms: int) -> int:
    """A step back beyond the tolerance, else 0; what is later than the floor is no step."""
    return step_ms if step_ms < -TOLERANCE_MS else 0
