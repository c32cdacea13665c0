"""Owns the promises of backups that are made by themselves: in time, whole, as many as wanted, and told when late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from appliance.config.backup import Backups
from appliance.device import backup_keeper
from appliance.device.backup_keeper import SUFFIX, BackupKeeper, KeptBackup
from appliance.device.health import Level
from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.wiring.backup import backup_finding
from tests.fakes.clock import SkippingClock
from tests.unit.backup.made import make, taken_out
from tests.unit.payment.shop import Shop, open_shop
from tests.unit.till.kept import keep

KEEP: Final = 3


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Shop, BackupKeeper, SkippingClock]]:
    clock = SkippingClock()
    async with open_shop(tmp_path / "log") as shop:
        yield shop, keeper_of(shop, tmp_path, clock), clock


def keeper_of(shop: Shop, tmp_path: Path, clock: SkippingClock) -> BackupKeeper:
    return BackupKeeper(
        backup=make(shop.ledger, tmp_path / "log", cipher=shop.hsm, clock=clock),
        folder=tmp_path / "stick",
        origin=shop.audience,
        every_ms=DAY_MS,
        keep=KEEP,
        clock=clock,
        metrics=Metrics(),
        log=Log(sink=lambda _line: None, clock=clock),
    )


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "stick").iterdir())


async def there(tmp_path: Path) -> list[str]:
    return await asyncio.to_thread(files, tmp_path)


async def test_one_is_made_when_the_newest_is_old_and_the_oldest_go(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "holiday.jpg").touch()
    (tmp_path / "stick" / f"shop.example_SN-2_1-{1:013}-7{SUFFIX}").touch()  # of another box
    async with opened(tmp_path) as (shop, keeper, clock):
        await keeper.look()
        first = [name for name in await there(tmp_path) if name.startswith("shop.example_SN-1_1-")]
        assert len(first) == 1
        await keeper.look()
        await keeper_of(shop, tmp_path, clock).look()  # as after a restart
        assert [name for name in await there(tmp_path) if name.startswith("shop.example_SN-1_1-")] == first
        for _ in range(KEEP):
            clock.pass_time(DAY_MS)
            await keeper.look()
        kept = await there(tmp_path)
        assert len(kept) == KEEP + 2, "with the stranger's file and the other box's"
        assert first[0] not in kept
        assert keeper.newest is not None
        content = await asyncio.to_thread(keeper.newest.path.read_bytes)
        assert (await asyncio.to_thread(taken_out, content, tmp_path / "out")).header.size == keeper.newest.size


async def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, keeper, _clock):
        await keeper.look()
        assert keeper.trouble == "No such file or directory"
        assert not await asyncio.to_thread((tmp_path / "stick").exists)
        await asyncio.to_thread((tmp_path / "stick").mkdir)
        await keeper.look()
        assert keeper.newest is not None
        assert [keeper.newest.path.name] == await there(tmp_path)


async def test_a_failed_one_leaves_the_older_ones_and_no_half(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    async with opened(tmp_path) as (shop, keeper, clock):
        await keep(shop)
        await keeper.look()
        before = await there(tmp_path)
        clock.pass_time(DAY_MS)
        shop.hsm.is_there = False
        await keeper.look()
        assert "does not open" in str(keeper.trouble) or "does not answer" in str(keeper.trouble)
        assert await there(tmp_path) == before


async def test_a_file_that_is_not_read_back_as_written_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stick").mkdir()
    monkeypatch.setattr(backup_keeper, "_digest", lambda _path: bytes(32))
    async with opened(tmp_path) as (_, keeper, _clock):
        await keeper.look()
        assert "not read back" in str(keeper.trouble)
        assert await there(tmp_path) == []


async def test_a_clock_that_was_set_back_stops_no_backup(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    async with opened(tmp_path) as (_, keeper, clock):
        await keeper.look()
        clock.pass_time(-2 * DAY_MS)
        await keeper.look()
        assert len(await there(tmp_path)) == 2


@pytest.mark.parametrize(
    ("age_ms", "trouble", "level", "said"),
    [
        (HOUR_MS, None, Level.OK, "The newest backup is 1 h old."),
        (3 * DAY_MS, None, Level.COPING, "The newest backup is 3 days old. We sell on."),
        (HOUR_MS, "No space left", Level.COPING, "The last try failed: No space left."),
        (None, None, Level.OK, "There is no backup."),
    ],
)
def test_health_says_how_old_the_newest_is(age_ms: int | None, trouble: str | None, level: Level, said: str) -> None:
    now_ms = 10 * DAY_MS
    settings = Backups(recipient_path=Path("recovery.key.pub"), folder=Path("/media/stick"))
    newest = None if age_ms is None else KeptBackup(path=Path("x"), made_ms=now_ms - age_ms, size=1)
    found = backup_finding(settings, newest=newest, trouble=trouble, now_ms=now_ms, started_ms=now_ms - MINUTE_MS)
    assert found.level is level
    assert said in found.sentence
    assert (found.next_step == "") is (level is Level.OK)


def test_a_box_that_runs_for_hours_without_a_backup_is_not_well() -> None:
    settings = Backups(recipient_path=Path("recovery.key.pub"), folder=Path("/media/stick"))
    found = backup_finding(settings, newest=None, trouble=None, now_ms=2 * HOUR_MS, started_ms=0)
    assert (found.level, found.next_step[:23]) == (Level.COPING, "See that /media/stick i")
