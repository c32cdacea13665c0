"""The scrub in the box: on demand, once a day, its result remembered, its findings believed at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from appliance.device.scrubber import AGAIN_AFTER_MS, EVERY_MS, Scrubber, VerificationProjection
from appliance.ledger.database import database_file
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.limits import HOUR_MS
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import open_ledger, running, sale
from tests.unit.runtime.lines import Lines

PROJECTIONS = (VerificationProjection(),)
SIZE = 600


@asynccontextmanager
async def scrubbed(folder: Path, clock: FakeClock) -> AsyncIterator[tuple[Ledger, Scrubber, list[str]]]:
    async with running(await open_ledger(folder, clock=clock, projections=PROJECTIONS)) as ledger:
        missing = SIZE - ledger.head.size
        if missing > 0:
            await ledger.append([sale(f"k{at}") for at in range(missing)], purpose=Purpose.OUTCOME)
        reasons: list[str] = []
        scrubber = Scrubber(ledger=ledger, folder=folder, clock=clock, log=Lines().log, on_corrupt=reasons.append)
        await scrubber.load()
        services = [asyncio.create_task(scrubber.run()), asyncio.create_task(scrubber.keep_time())]
        try:
            yield ledger, scrubber, reasons
        finally:
            for service in services:
                service.cancel()
            await asyncio.wait(services)


async def ended(scrubber: Scrubber) -> None:
    async with asyncio.timeout(20):
        while scrubber.progress is not None:
            await asyncio.to_thread(lambda: None)  # the loop's own threads have nothing else to do meanwhile


async def test_result_is_an_entry_and_known_after_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    async with scrubbed(tmp_path, clock) as (ledger, scrubber, reasons):
        head = ledger.head
        scrubber.ask()
        scrubber.ask()  # one that runs is enough
        assert scrubber.progress is not None
        await ended(scrubber)
        assert scrubber.last is not None
        assert (scrubber.last.size, scrubber.last.root, scrubber.last.code) == (head.size, head.root, "")
        assert (ledger.head.size, reasons) == (head.size + 1, [])
    async with scrubbed(tmp_path, clock) as (_, again, _reasons):
        assert again.last == scrubber.last


async def test_one_that_just_ended_is_not_repeated(tmp_path: Path) -> None:
    clock = FakeClock()
    async with scrubbed(tmp_path, clock) as (_, scrubber, _reasons):
        scrubber.ask()
        await ended(scrubber)
        with pytest.raises(Rejected, match="verified_just_now"):
            scrubber.ask()
        clock.pass_time(AGAIN_AFTER_MS)
        scrubber.ask()
        await ended(scrubber)


async def test_once_a_day_it_runs_by_itself(tmp_path: Path) -> None:
    clock = FakeClock()
    async with scrubbed(tmp_path, clock) as (ledger, scrubber, _reasons):
        await clock.advance(HOUR_MS)  # never verified: at the first look
        await ended(scrubber)
        assert ledger.head.size == SIZE + 1
        await clock.advance(EVERY_MS - HOUR_MS)
        await ended(scrubber)
        assert ledger.head.size == SIZE + 1
        await clock.advance(HOUR_MS)
        await ended(scrubber)
        assert ledger.head.size == SIZE + 2


async def test_damage_stops_the_sales_and_is_told_with_its_place(tmp_path: Path) -> None:
    async with scrubbed(tmp_path, FakeClock()) as (ledger, scrubber, reasons):
        with closing(sqlite3.connect(database_file(tmp_path))) as connection, connection:
            connection.execute("UPDATE tiles SET hashes = zeroblob(8192) WHERE number = 1 AND level = 0")
        scrubber.ask()
        await ended(scrubber)
        last = scrubber.last
        assert last is not None
        assert (last.code, last.bad_entry) == ("tile_mismatch", 511)
        assert "tile 1 of level 0" in last.detail
        assert reasons == [last.detail]
        assert ledger.head.size == SIZE, "nothing is appended to a log that is damaged"


async def test_stop_in_the_middle_lets_go_of_the_file(tmp_path: Path) -> None:
    async with scrubbed(tmp_path, FakeClock()) as (_, scrubber, _reasons):
        scrubber.ask()
        await asyncio.sleep(0)
    assert scrubber.last is None
