"""The process runs on uvloop and ends with the error of its body."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Iterator

import pytest
import uvloop

from appliance.runtime.process import SWITCH_INTERVAL_S, raise_descriptor_limit, run_process


@pytest.fixture(autouse=True)
def _switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_body_runs_on_uvloop_with_a_short_switch_interval() -> None:
    seen: list[object] = []

    async def main() -> None:
        seen.append(asyncio.get_running_loop())
        seen.append(sys.getswitchinterval())

    run_process(main)
    assert isinstance(seen[0], uvloop.Loop)
    assert seen[1] == pytest.approx(SWITCH_INTERVAL_S)


def test_error_of_the_body_passes_through() -> None:
    async def main() -> None:
        raise ValueError("expected")

    with pytest.raises(ValueError, match="expected"):
        run_process(main)


def test_a_low_soft_limit_of_descriptors_is_lifted() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert raise_descriptor_limit() > 256
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
