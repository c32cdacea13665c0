"""A box and its tills, for the test files that ask no more of them than to be there; a file may have its own `box`.

Owns the promise that whatever those tests sent, the box never met an error of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.box import RunningBox, running_box
from tests.integration.till import Till, paired_till


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    """One box for all tests of a file."""
    with running_box(tmp_path_factory.mktemp("shop")) as running:
        yield running
        assert running.events("request.crashed") == []


@pytest.fixture(scope="module")
def till(box: RunningBox, tmp_path_factory: pytest.TempPathFactory) -> Till:
    return paired_till(box, tmp_path_factory.mktemp("tills"), "till-1")


@pytest.fixture(scope="module")
def other_till(box: RunningBox, tmp_path_factory: pytest.TempPathFactory) -> Till:
    return paired_till(box, tmp_path_factory.mktemp("tills"), "till-2")


@pytest.fixture
def card_box(tmp_path: Path) -> Iterator[RunningBox]:
    """A box for one test alone, with cards: its day begins with the test."""
    with running_box(tmp_path / "shop", has_cards=True) as running:
        yield running
        assert running.events("request.crashed") == []


@pytest.fixture
def card_till(card_box: RunningBox, tmp_path: Path) -> Till:
    return paired_till(card_box, tmp_path, "till-1")
