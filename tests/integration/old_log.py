"""A log of which most is old enough to be pruned, and what says so in tests. Holds no test."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from appliance.ledger.archive import Archive
from appliance.ledger.database import database_file
from appliance.ledger.draft import Disclosure, Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.projection import Projection
from appliance.ledger.prune import KEPT_MS_MIN, Pruning
from tests.fakes.clock import START_MS, FakeClock
from tests.unit.ledger.shop import Sales, draft, open_ledger, running, sale

SIZE = 1_600
YOUNG = 300
"""Sales after the years have passed."""
TAIL = 256


@dataclass
class World:
    """What vouches and what needs, as a test says."""

    cosigned: int = 0
    floor: int | None = None
    asked: list[int] = field(default_factory=list)

    async def is_cosigned(self, size: int) -> bool:
        self.asked.append(size)
        return size <= self.cosigned

    async def lowest(self) -> int | None:
        return self.floor


@dataclass(frozen=True, kw_only=True)
class Open:
    folder: Path
    ledger: Ledger
    archive: Archive
    pruning: Pruning
    world: World

    async def entry(self, seq: int) -> bytes:
        return await self.archive.entry(seq)

    def rows(self, query: str) -> list[tuple[int]]:
        with closing(sqlite3.connect(database_file(self.folder))) as connection:
            return connection.execute(query).fetchall()


def clock_later(folder: Path) -> FakeClock:
    return FakeClock(START_MS + 2 * KEPT_MS_MIN if database_file(folder).exists() else START_MS)


@asynccontextmanager
async def opened(
    folder: Path, world: World | None = None, projections: tuple[Projection, ...] = (Sales(),)
) -> AsyncIterator[Open]:
    """The log in `folder`; 182 days later than it began if it is there already."""
    clock, world = clock_later(folder), world or World()
    async with running(await open_ledger(folder, clock=clock, projections=projections)) as ledger:
        archive = await Archive.open(folder, lambda: ledger.tail)
        pruning = Pruning(
            ledger=ledger,
            archive=archive,
            folder=folder,
            projections=projections,
            clock=clock,
            is_cosigned=world.is_cosigned,
            floors=(world.lowest,),
        )
        try:
            yield Open(folder=folder, ledger=ledger, archive=archive, pruning=pruning, world=world)
        finally:
            await archive.close()


async def write_old_log(folder: Path) -> None:
    """1,600 old entries and 300 young ones."""
    async with opened(folder) as box:
        buyer = Disclosure(name="buyer", salt=b"s" * 16, value=b"Ottilie Prunkvogel", subject="person:1")
        named = draft("note", {"buyer": buyer.commitment}, (buyer,))
        await box.ledger.append([named], purpose=Purpose.OUTCOME)
        await box.ledger.append([sale(f"old-{at}") for at in range(SIZE - 3)], purpose=Purpose.OUTCOME)
    async with opened(folder) as box:
        now_ms = clock_later(folder).now_ms()
        young = [sale(f"young-{at}") for at in range(YOUNG)]
        await box.ledger.append([_at(each, now_ms) for each in young], purpose=Purpose.OUTCOME)


def _at(each: Draft, time_ms: int) -> Draft:
    return Draft(kind=each.kind, actor=each.actor, time_ms=time_ms, body=each.body)


async def pruned(box: Open) -> None:
    """Take a snapshot, have it cosigned, prune."""
    box.world.cosigned = await box.pruning.take_snapshot() + 1
    await box.pruning.prune(KEPT_MS_MIN)
