"""Each planted bug is caught within a bounded number of worlds: what the world would let pass, it does not guard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.bugs import BUGS, Bug
from tests.world.command import HARMS, Worker, open_worker, workshop

SEEDS_MAX = 250


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with workshop() as folder, open_worker(folder) as worker:
        yield worker


def test_there_are_at_least_twenty() -> None:
    assert len(BUGS) >= 20


def test_a_bug_that_cannot_be_planted_ends_its_worker_and_is_no_pass() -> None:
    with workshop() as folder, open_worker(folder) as worker, pytest.raises(RuntimeError, match="worker died"):
        worker.live(1, "no-such-bug")


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_world_catches(worker: Worker, bug: Bug) -> None:
    for seed in (bug.seed, *range(1, SEEDS_MAX + 1)):
        harms = {harm for harm, _ in worker.live(seed, bug.name).violations}
        if harms:
            assert harms <= set(HARMS)
            print(f"caught by seed {seed}")
            return
    pytest.fail(f"{SEEDS_MAX} worlds with the bug {bug.name!r} and nothing was wrong: {bug.what}")
