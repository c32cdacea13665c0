"""The nursery, the twin and the template shop: made once, used by every test that kills a box."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.shop import CrashShop, Nursery, Twin, copy_shop, make_template


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    started = Nursery()
    yield started
    started.close()


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    started = Twin(tmp_path_factory.mktemp("twin"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, twin: Twin) -> Path:
    path = tmp_path_factory.mktemp("template")
    make_template(path, nursery, twin)
    return path


@pytest.fixture
def shop(template: Path, tmp_path: Path, nursery: Nursery, twin: Twin) -> Iterator[CrashShop]:
    """A shop of its own; its box is down. Faults of an earlier test are over."""
    asyncio.run(twin.heal())
    copied = copy_shop(template, tmp_path / "shop", nursery, twin)
    yield copied
    asyncio.run(copied.kill())
