"""Worlds that hold, and that are the same each time.

WORLD_SEEDS and WORLD_SEED choose how many and which; `make world` does the same without pytest.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.command import live, summary, workshop

SEEDS = int(os.environ.get("WORLD_SEEDS", "40"))
SEED = int(os.environ.get("WORLD_SEED", "1"))
WORKERS = 2


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with workshop() as folder:
        yield folder


def test_nothing_is_lost_doubled_or_falsely_failed_in_any_world(folder: Path) -> None:
    results = list(live(folder, range(SEED, SEED + SEEDS), workers=WORKERS))
    assert len(results) == SEEDS
    wrong = {result.seed: result.violations[:3] for result in results if result.violations}
    assert not wrong, f"replay with make world SEED=...: {wrong}"
    assert sum(result.entries for result in results) > 10 * SEEDS, "worlds in which nothing happens prove nothing"


def test_same_seed_is_the_same_history_in_another_process(folder: Path) -> None:
    seeds = range(SEED, SEED + 3)
    first = {result.seed: result for result in live(folder, seeds)}
    with workshop() as other:  # other keys and another genesis: what is signed is no part of a history
        again = {result.seed: result for seed in reversed(seeds) for result in live(other, [seed], has_notes=True)}
    for seed in seeds:
        assert first[seed].digest == again[seed].digest
        assert first[seed].steps == again[seed].steps
        assert again[seed].lines


def test_closing_line_counts_worlds_and_harms() -> None:
    assert summary(3, Counter()) == "worlds 3, lost 0, doubled 0, falsely failed 0"
    assert summary(9, Counter({"falsely failed": 2})) == "worlds 9, lost 0, doubled 0, falsely failed 2"
