"""Each planted bug is caught within a bounded number of worlds: what the world would let pass, it does not guard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.bugs import BUGS, Bug
from tests.world.command import HARMS, live, workshop

SEEDS_MAX = 250
WORKERS = 2


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with workshop() as folder:
        yield folder


def test_there_are_at_least_twenty() -> None:
    assert len(BUGS) >= 20


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_world_catches(folder: Path, bug: Bug) -> None:
    worlds = live(folder, range(1, SEEDS_MAX + 1), workers=WORKERS, bug=bug.name, until_harm=True)
    harms = [harm for world in worlds for harm, _ in world.violations]
    assert harms, f"{SEEDS_MAX} worlds with the bug {bug.name!r} and nothing was wrong: {bug.what}"
    assert set(harms) <= set(HARMS)
