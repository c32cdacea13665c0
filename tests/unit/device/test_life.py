"""The box's state over its life: what stops sales at once, what stands in the log, what a restart finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.device.admission import Quarantine
from appliance.device.health import Finding, Level
from appliance.device.life import HOLDS_MS, LOOK_MS, DeviceLife, DeviceStateProjection
from appliance.ledger.entry import decode
from appliance.ledger.ledger import Ledger
from appliance.model.device_state import Act, Cause, DeviceState, Role
from appliance.model.errors import Rejected, Unavailable
from appliance.wire.device_entries import DEVICE_STATE, DeviceStateEntry
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import open_ledger, running
from tests.unit.runtime.lines import Lines

WELL = Finding(check="tpm", level=Level.OK, sentence="The TPM answers.")
AWAY = Finding(check="tpm", level=Level.COPING, sentence="The TPM does not answer.")


class Box:
    """A box as far as its state goes; each `started` is a process of its own on one log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.quarantine = Quarantine()
        self.finding = WELL
        self.fault: str | None = None
        self.told: list[DeviceState] = []
        self.ledger: Ledger

    @asynccontextmanager
    async def started(self) -> AsyncIterator[DeviceLife]:
        self.quarantine = Quarantine()
        opened = await open_ledger(self.folder, clock=self.clock, projections=(DeviceStateProjection(),))
        async with running(opened) as self.ledger:
            life = DeviceLife(
                ledger=self.ledger,
                quarantine=self.quarantine,
                parts=lambda: (lambda: self.finding,),
                fault=lambda: self.fault,
                told=self.told.append,
                clock=self.clock,
                log=Lines().log,
            )
            await life.begin()
            yield life

    async def changes(self) -> list[tuple[str, str, str]]:
        """(before, state, cause) of each entry."""
        rows = await self.ledger.read(
            lambda connection: connection.execute(
                "SELECT entry FROM entries WHERE kind = ? ORDER BY seq", (DEVICE_STATE,)
            ).fetchall()
        )
        bodies = [msgspec.convert(cbor.decode(decode(row[0]).body, size_max=65_536), DeviceStateEntry) for row in rows]
        return [(body.before, body.state, body.cause) for body in bodies]


async def test_first_start_is_an_entry_and_the_next_one_none(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        assert life.standing.state is DeviceState.OPERATIONAL
    async with box.started() as life:
        assert await box.changes() == [("unprovisioned", "operational", "start")]
        assert box.told[-1] is DeviceState.OPERATIONAL


async def test_lock_is_durable_survives_restarts_and_ends_by_unlock(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        await life.lock("stocktaking")
    async with box.started() as life:
        for act, role in ((Act.SELL, Role.TERMINAL), (Act.UNDO, Role.TERMINAL), (Act.PAIR, Role.OPERATOR)):
            with pytest.raises(Unavailable, match=r"device_locked: .*stocktaking"):
                life.require(act, role)
        await life.unlock("counted")
        life.require(Act.SELL, Role.TERMINAL)
    async with box.started() as life:
        assert life.conditions() == ()
        assert (await box.changes())[1:] == [
            ("operational", "locked", "lock"),
            ("locked", "operational", "unlock"),
        ]


async def test_unlocking_what_is_not_locked_writes_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        size = box.ledger.head.size
        with pytest.raises(Rejected) as refused:
            await life.unlock("why not")
        assert refused.value.code == "device_not_locked"
        assert box.ledger.head.size == size


async def test_lock_behind_a_quarantine_stands_when_a_restart_lifts_that(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        box.quarantine.set("another head was seen")
        with pytest.raises(Unavailable, match="quarantined"):
            life.require(Act.SELL, Role.TERMINAL)  # before any entry says so
        await _looks(box, life, LOOK_MS)
        assert life.standing.state is DeviceState.QUARANTINED
        await life.lock("called somebody")
        assert life.standing.state is DeviceState.QUARANTINED
    async with box.started() as life:
        assert (life.standing.state, life.standing.lock) == (DeviceState.LOCKED, "called somebody")
        assert (await box.changes())[1:] == [
            ("operational", "quarantined", "evidence"),
            ("quarantined", "quarantined", "lock"),
            ("quarantined", "locked", "start"),
        ]


async def test_lost_device_degrades_once_it_has_been_away_for_a_while(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        for finding in (AWAY, WELL) * 5:  # a loose plug
            box.finding = finding
            await _looks(box, life, LOOK_MS)
        assert len(await box.changes()) == 1
        box.finding = AWAY
        await _looks(box, life, HOLDS_MS + 2 * LOOK_MS)
        assert life.standing.state is DeviceState.DEGRADED
        life.require(Act.SELL, Role.TERMINAL)
        box.finding = WELL
        await _looks(box, life, HOLDS_MS + 2 * LOOK_MS)
        assert (await box.changes())[1:] == [
            ("operational", "degraded", "missing"),
            ("degraded", "operational", "well"),
        ]


async def test_part_that_needs_a_person_stops_sales_and_lets_money_go_back(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        box.fault = "the HSM refused the PIN"
        with pytest.raises(Unavailable, match="device_failed"):
            life.require(Act.SELL, Role.TERMINAL)
        life.require(Act.UNDO, Role.TERMINAL)
        await _looks(box, life, LOOK_MS)
        assert (await box.changes())[1:] == [("operational", "failed", "fault")]


async def _looks(box: Box, life: DeviceLife, duration_ms: int) -> None:
    """Let the service run for so long."""
    service = asyncio.create_task(life.run())
    await box.clock.settle()
    for _ in range(duration_ms // LOOK_MS):
        await box.clock.advance(LOOK_MS)
        while box.clock.sleeper_count == 0:
            await box.clock.settle()
    service.cancel()
    await asyncio.wait([service])


async def test_tamper_locks_at_once_also_while_its_entry_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_drafts: object, **_options: object) -> None:
        raise Unavailable("disk_full", "a test said so")

    box = Box(tmp_path)
    async with box.started() as life:
        monkeypatch.setattr(box.ledger, "append", refuse)
        with pytest.raises(Unavailable, match="disk_full"):
            await life.tamper("the case was opened")
        with pytest.raises(Unavailable, match="device_locked"):
            life.require(Act.SELL, Role.TERMINAL)


async def test_tamper_is_one_entry_over_restarts_until_somebody_unlocks(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for _ in range(3):
        async with box.started() as life:
            await life.tamper("the case was opened")
            assert (await box.changes())[1:] == [("operational", "locked", "tamper")]
    async with box.started() as life:
        await life.unlock("it was the engineer")
        await life.tamper("the case was opened")
        assert [change[2] for change in await box.changes()] == ["start", "tamper", "unlock", "tamper"]


async def test_nothing_follows_retirement_over_restarts(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.started() as life:
        await life.retire("sold", Cause.RETIRE)
    async with box.started() as life:
        assert life.standing.state is DeviceState.RETIRED
        for act in (Act.SELL, Act.UNDO, Act.PAIR, Act.UNLOCK, Act.LOCK):
            with pytest.raises(Unavailable, match="device_retired"):
                life.require(act)
        assert (await box.changes())[-1] == ("operational", "retired", "retire")
