"""The table of operation states is the whole truth."""

from __future__ import annotations

import itertools

import pytest

from appliance.model.errors import Bug
from appliance.model.operation import NEXT, OPEN, OperationState, advance


@pytest.mark.parametrize(("state", "following"), list(itertools.product(OperationState, OperationState)))
def test_only_listed_steps_are_taken(state: OperationState, following: OperationState) -> None:
    if following in NEXT[state]:
        assert advance(state, following) is following
    else:
        with pytest.raises(Bug):
            advance(state, following)


def test_confirmed_rejected_and_absent_are_final() -> None:
    assert frozenset({OperationState.PREPARED, OperationState.UNKNOWN}) == OPEN
