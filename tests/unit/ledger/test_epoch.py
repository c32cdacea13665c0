"""Epochs: every relation of counter and log."""

from __future__ import annotations

import pytest

from appliance.ledger.epoch import Fine, Increment, Quarantine, compare_epoch, epoch_body, read_epoch
from appliance.model.errors import Bug, Corrupt


def test_equal_counts_are_fine() -> None:
    assert compare_epoch(7, 7) == Fine()


def test_a_counter_one_behind_is_incremented() -> None:
    assert compare_epoch(6, 7) == Increment(to=7)


@pytest.mark.parametrize("counter", [0, 5, 8, 100])
def test_anything_else_is_quarantined(counter: int) -> None:
    assert isinstance(compare_epoch(counter, 7), Quarantine)


def test_a_body_is_read_back_and_nonsense_is_not() -> None:
    assert read_epoch(epoch_body(3)) == 3
    with pytest.raises(Corrupt):
        read_epoch(b"\xa1\x65epoch\x00")
    with pytest.raises(Bug):
        epoch_body(0)
