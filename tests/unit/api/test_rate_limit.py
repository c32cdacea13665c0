"""The token bucket: a burst, then the rate, never more than the burst again."""

from __future__ import annotations

import pytest

from appliance.api.rate_limit import TokenBucket
from appliance.model.errors import Rejected
from tests.fakes.clock import FakeClock


def taken(bucket: TokenBucket, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            bucket.take()
        except Rejected:
            continue
        count += 1
    return count


@pytest.mark.parametrize(("pause_ms", "expected"), [(0, 0), (499, 4), (1_000, 10), (3_600_000, 30)])
def test_bucket_gives_its_burst_then_its_rate(pause_ms: int, expected: int) -> None:
    clock = FakeClock()
    bucket = TokenBucket(per_second=10, burst=30, clock=clock)
    assert taken(bucket, 30) == 30
    with pytest.raises(Rejected, match="too_many_reads"):
        bucket.take()
    clock.pass_time(pause_ms)
    assert taken(bucket, 100) == expected


def test_wall_clock_steps_give_nothing() -> None:
    clock = FakeClock()
    bucket = TokenBucket(per_second=10, burst=30, clock=clock)
    taken(bucket, 30)
    clock.step(3_600_000)
    assert taken(bucket, 10) == 0
