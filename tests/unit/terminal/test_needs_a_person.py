"""A box that only a person can help is no reason to let a cashier wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.device_state import DeviceState
from appliance.model.errors import Unavailable
from appliance.wire.answers import Problem
from provisioning.terminal import verdict
from tests.unit.terminal.test_no_proof import SALE, client


@pytest.mark.parametrize("code", sorted(verdict.NEEDS_A_PERSON))
async def test_locked_box_is_asked_once(tmp_path: Path, code: str) -> None:
    problem = Problem(type="about:blank", title="Unavailable", status=503, code=code, detail="stocktaking", now_ms=0)
    till = client(tmp_path, payment=(503, problem))
    deadline = till.deadline(40_000)
    with pytest.raises(Unavailable, match=code):
        await till.payment(SALE, key=till.new_key(), deadline=deadline)
    assert deadline.remaining_ms == 40_000


async def test_box_that_helps_itself_is_asked_again(tmp_path: Path) -> None:
    problem = Problem(type="about:blank", title="Unavailable", status=503, code="signing_down", detail="", now_ms=0)
    till = client(tmp_path, payment=(503, problem))
    deadline = till.deadline(40_000)
    with pytest.raises(Unavailable, match="signing_down"):
        await till.payment(SALE, key=till.new_key(), deadline=deadline)
    assert deadline.remaining_ms < 10_000


def test_every_state_that_sells_nothing_is_named() -> None:
    """Codes of `model/device_state.py`: each state but those in which the box sells has one."""
    assert len(verdict.NEEDS_A_PERSON) == len(DeviceState) - len({DeviceState.OPERATIONAL, DeviceState.DEGRADED})
