"""The two tables of the device's states: what they promise, and that the page for operators says the same."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from appliance.model.device_state import (
    MAY,
    NEXT,
    Act,
    Cause,
    Condition,
    DeviceState,
    Role,
    follow,
    may,
    require,
    worst,
)
from appliance.model.errors import Bug, Unavailable

PAGE = Path(__file__).parents[3] / "appliance" / "docs" / "operating.md"
STOPPED = (DeviceState.LOCKED, DeviceState.QUARANTINED, DeviceState.FAILED, DeviceState.RETIRED)


def test_page_for_operators_has_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [line for line in table_lines() if line not in page] == []


def table_lines() -> list[str]:
    """Markdown, as the page has it: one row per act, one column per state."""
    lines = [
        "| May | " + " | ".join(f"`{state}`" for state in DeviceState) + " |",
        "|---|" + "---|" * len(DeviceState),
    ]
    for act in Act:
        cells = (", ".join(role for role in Role if may(state, act, role)) for state in DeviceState)
        lines.append(f"| {act} | " + " | ".join(cells) + " |")
    return [line.replace(", ".join(Role), "everybody") for line in lines]


def test_every_state_is_in_both_tables() -> None:
    assert set(MAY) == set(NEXT) == set(DeviceState)


@pytest.mark.parametrize("state", STOPPED)
def test_a_stopped_box_sells_to_nobody_and_says_why(state: DeviceState) -> None:
    for act, role in product((Act.SELL, Act.PAIR), Role):
        if may(state, act, role):
            continue
        with pytest.raises(Unavailable, match="a test said so"):
            require((Condition(state=state, reason="a test said so"),), act, role)
    assert not any(may(state, Act.SELL, role) for role in Role)


def test_what_was_begun_is_ended_in_every_state_that_has_a_log_and_keys() -> None:
    without = {DeviceState.UNPROVISIONED, DeviceState.RETIRED}
    assert all(may(state, Act.FINISH, Role.BOX) for state in set(DeviceState) - without)


def test_of_two_states_each_must_allow_and_the_worst_is_told() -> None:
    both = (
        Condition(state=DeviceState.LOCKED, reason="stocktaking"),
        Condition(state=DeviceState.FAILED, reason="no PIN"),
    )
    assert worst(both).state is DeviceState.FAILED
    with pytest.raises(Unavailable) as locked:
        require(both, Act.UNDO, Role.TERMINAL)  # a failed box alone would give money back
    assert locked.value.code == "device_locked"
    with pytest.raises(Unavailable) as failed:
        require(both, Act.SELL, Role.TERMINAL)
    assert failed.value.code == "device_failed"


def test_nothing_follows_retirement_and_only_a_start_ends_quarantine() -> None:
    assert NEXT[DeviceState.RETIRED] == {}
    for state in (DeviceState.OPERATIONAL, DeviceState.DEGRADED, DeviceState.LOCKED):
        assert NEXT[DeviceState.QUARANTINED][state] == {Cause.START}


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (DeviceState.RETIRED, DeviceState.OPERATIONAL, Cause.START),
        (DeviceState.QUARANTINED, DeviceState.OPERATIONAL, Cause.UNLOCK),
        (DeviceState.OPERATIONAL, DeviceState.LOCKED, Cause.WELL),
        (DeviceState.LOCKED, DeviceState.OPERATIONAL, Cause.LOCK),
    ],
)
def test_other_transitions_are_bugs(before: DeviceState, after: DeviceState, cause: Cause) -> None:
    with pytest.raises(Bug):
        follow(before, after, cause)
