"""One box for all refusals: whatever a test sends, its log must not grow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.box import RunningBox, running_box
from tests.integration.pos_refusals.refused import CARD_NUMBER
from tests.integration.till import Till, paired_till


@pytest.fixture(scope="package")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with running_box(tmp_path_factory.mktemp("shop")) as running:
        yield running
        # Whatever these tests sent, the box never met an error of its own.
        assert running.events("request.crashed") == []
        assert CARD_NUMBER not in running.said()
        assert CARD_NUMBER.encode() not in running.data_bytes()


@pytest.fixture(scope="package")
def till(box: RunningBox, tmp_path_factory: pytest.TempPathFactory) -> Till:
    return paired_till(box, tmp_path_factory.mktemp("tills"), "till-1")


@pytest.fixture
def unchanged(box: RunningBox) -> Iterator[None]:
    """The log is as long after the test as before, but for summaries of refusals."""
    before = box.log_size()
    yield
    assert box.log_size() == before
