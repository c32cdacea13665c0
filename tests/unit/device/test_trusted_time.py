"""The box's time over starts: never earlier than what it has proven, and every contradiction is an entry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.crypto import cbor
from appliance.device.health import Level
from appliance.device.trusted_time import ClockMarkProjection, TrustedTime
from appliance.ledger.entry import decode
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.runtime.clock import FlooredClock
from tests.fakes.clock import START_MS, FakeClock
from tests.fakes.sealer import FakeSealer
from tests.unit.ledger.shop import open_ledger, running
from tests.unit.runtime.lines import Lines


class Box:
    """A box whose clocks a test owns; each `started` is a process of its own on one log and one TPM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wall = FakeClock(now_ms=START_MS + MINUTE_MS)
        self.sealer = FakeSealer()
        self.clock = FlooredClock(self.wall)
        self.ledger: Ledger

    def passes(self, duration_ms: int, *, is_powered: bool = True) -> None:
        self.wall.pass_time(duration_ms)
        if is_powered:
            powered_ms = self.sealer.platform.powered_ms + duration_ms
            self.sealer.platform = replace(self.sealer.platform, powered_ms=powered_ms)
        else:
            self.sealer.platform = replace(self.sealer.platform, resets=self.sealer.platform.resets + 1)

    @asynccontextmanager
    async def started(self, *, has_tpm: bool = True) -> AsyncIterator[TrustedTime]:
        self.clock = FlooredClock(self.wall)
        opened = await open_ledger(self.folder, clock=self.wall, projections=(ClockMarkProjection(),))
        async with running(opened) as self.ledger:
            platform = self.sealer.clock if has_tpm else None
            time = TrustedTime(ledger=self.ledger, clock=self.clock, platform=platform, log=Lines().log)
            await time.begin()
            yield time

    async def entries(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.ledger.read(
            lambda connection: connection.execute(
                "SELECT entry FROM entries WHERE kind = ? ORDER BY seq", (kind,)
            ).fetchall()
        )
        bodies: list[Any] = [cbor.decode(decode(row[0]).body, size_max=65_536) for row in rows]
        return bodies


async def test_each_start_marks_both_clocks_and_says_what_nobody_can_prove(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started():
        pass
    box.passes(3 * DAY_MS, is_powered=False)
    async with box.started() as time:
        first, second = await box.entries("clock_mark")
        assert "unproven" not in first
        assert abs(second["unproven"] - 3 * DAY_MS) < MINUTE_MS
        assert second["resets"] == first["resets"] + 1
        assert await box.entries("clock_set") == []
        assert time.check().level is Level.OK


async def test_box_with_a_flat_battery_counts_on_until_the_clock_is_right(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started():
        pass
    box.passes(HOUR_MS, is_powered=False)
    right_ms = box.wall.now_ms()
    box.wall.step(-20 * 365 * DAY_MS)
    async with box.started() as time:
        (said,) = await box.entries("clock_set")
        assert said["proof"] == "log"
        assert said["step_ms"] < -19 * 365 * DAY_MS
        assert START_MS < box.clock.now_ms() <= right_ms
        assert time.check().level is Level.COPING
        before_ms = box.clock.now_ms()
        box.passes(MINUTE_MS)
        assert box.clock.now_ms() == before_ms + MINUTE_MS
        box.wall.step(20 * 365 * DAY_MS)  # the time server is there
        assert box.clock.now_ms() == box.wall.now_ms()
        assert time.check().level is Level.OK


async def test_tpm_contradicts_a_clock_that_is_set_back_to_just_behind_the_log(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started():
        pass
    box.passes(30 * DAY_MS)  # nobody sold, and the process was down
    box.wall.step(-29 * DAY_MS)
    async with box.started():
        (said,) = await box.entries("clock_set")
        assert said["proof"] == "tpm"
        assert box.clock.now_ms() > START_MS + 25 * DAY_MS


async def test_clock_that_jumped_ahead_with_the_power_on_is_an_entry_and_believed(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started():
        pass
    box.passes(MINUTE_MS)
    box.wall.step(90 * DAY_MS)
    async with box.started() as time:
        (said,) = await box.entries("clock_set")
        assert (said["proof"], said["step_ms"] > 89 * DAY_MS) == ("tpm", True)
        assert box.clock.now_ms() == box.wall.now_ms()
        assert "ahead" in time.check().sentence


async def test_operator_accepts_a_clock_that_was_wrong_before(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as time:
        with pytest.raises(Rejected) as refused:
            await time.accept()
        assert refused.value.code == "clock_not_doubted"
    box.passes(MINUTE_MS)
    box.wall.step(-DAY_MS)  # it had been a day ahead
    async with box.started() as time:
        await time.accept()
        assert box.clock.now_ms() == box.wall.now_ms()
        assert [said["proof"] for said in await box.entries("clock_set")] == ["tpm", "operator"]
    box.passes(MINUTE_MS)
    async with box.started():
        assert len(await box.entries("clock_set")) == 2


async def test_without_a_tpm_the_log_alone_bounds_the_time(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started(has_tpm=False):
        assert await box.entries("clock_mark") == []
    box.wall.step(-DAY_MS)
    async with box.started(has_tpm=False):
        (said,) = await box.entries("clock_set")
        assert said["proof"] == "log"


async def test_tpm_that_is_away_leaves_the_log(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started():
        pass
    box.sealer.is_away = True
    async with box.started():
        assert len(await box.entries("clock_mark")) == 1
