"""Updates as the process sees them: taken, proven after a start from cold, confirmed or given up; whatever is cut."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from appliance.adapters.spool import SpoolFolder
from appliance.crypto import cbor
from appliance.crypto.owner import OwnerKey
from appliance.device.self_test_sale import sell_to_itself
from appliance.device.update import LOOK_MS, UpdateParty, Updates
from appliance.evidence.update import PcrPolicy
from appliance.ledger.entry import decode
from appliance.ledger.ledger import Ledger
from appliance.ledger.projection import tables_digest
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from appliance.model.update_state import UpdateState
from appliance.ports.platform import RunningImage
from appliance.wire.installer import Installing, Report
from appliance.wire.update_entries import SELF_TEST_SALE, UpdateConfirmedEntry, UpdateFellBackEntry, UpdateStagedEntry
from appliance.wiring.projections import projections
from tests.fakes.clock import FakeClock
from tests.fakes.sealer import FakeSealer
from tests.unit.ledger.shop import open_ledger, running
from tests.unit.runtime.lines import Lines
from tests.until import until
from tests.update_kit import FLOOR, MODEL, NEW, OLD, image, statement_of, update_file

POLICY = PcrPolicy(pcrs=(0, 7, 11), version=FLOOR + 1, approved=b"a" * 32, signature=b"s", public_key=b"k")


class Admission:
    """Lets everything pass until it is told a refusal."""

    def __init__(self) -> None:
        self.refusal: Unavailable | None = None

    def admit(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def admit_undo(self) -> None:
        self.admit()


class Box:
    """A box as far as updates go; each `started` is a process of its own on one log, one spool and one TPM."""

    def __init__(self, folder: Path, owner: OwnerKey) -> None:
        self.folder = folder
        self.owner = owner
        self.clock = FakeClock()
        self.sealer = FakeSealer()
        self.admission = Admission()
        self.refusal: Unavailable | None = None
        self.room_bytes_min = 0
        self.approved: list[tuple[PcrPolicy, ...]] = []
        self.version = OLD
        self.cannot_approve: OSError | None = None
        self.ledger: Ledger
        (folder / "log").mkdir()

    @property
    def spool(self) -> Path:
        return self.folder / "update"

    @asynccontextmanager
    async def started(self, *, settles: bool = True) -> AsyncIterator[Updates]:
        opened = await open_ledger(self.folder / "log", clock=self.clock, projections=projections())
        async with running(opened) as self.ledger:
            party = UpdateParty(
                image=RunningImage(model=MODEL, version=self.version),
                owner=self.owner.public,
                counters=self.sealer,
                approve=self._approve,
                require=self._require,
                sell=partial(
                    sell_to_itself,
                    ledger=self.ledger,
                    admission=self.admission,
                    clock=self.clock,
                    currency="EUR",
                    version=self.version,
                ),
                room_bytes_min=self.room_bytes_min,
            )
            spool = SpoolFolder(self.spool, self.folder / "report.json")
            updates = Updates(party=party, spool=spool, ledger=self.ledger, clock=self.clock, log=Lines().log)
            if settles:
                await updates.settle()
            yield updates

    async def looks(self, updates: Updates) -> None:
        """The service looks once."""
        service = asyncio.create_task(updates.run())
        await until("the end of a look", lambda: self.clock.sleeper_count > 0)
        service.cancel()
        await asyncio.wait([service])
        self.clock.pass_time(LOOK_MS)

    def reports(self, updates: Updates, state: Installing, *, code: str = "", detail: str = "") -> None:
        """The installer's word about what was asked last."""
        report = Report(
            asked=updates.known.asked.hex(),
            state=state,
            version=NEW,
            number=FLOOR + 1,
            code=code,
            detail=detail,
            boot="b",
        )
        (self.folder / "report.json").write_bytes(msgspec.json.encode(report))

    def boots(self, version: str) -> None:
        self.version = version
        self.sealer.starts += 1

    async def bodies(self, kind: str) -> list[object]:
        rows = await self.ledger.read(
            lambda connection: connection.execute(
                "SELECT entry FROM entries WHERE kind = ? ORDER BY seq", (kind,)
            ).fetchall()
        )
        return [cbor.decode(decode(row[0]).body, size_max=65_536) for row in rows]

    def _approve(self, policies: tuple[PcrPolicy, ...], floor: int) -> None:
        assert floor == FLOOR
        if self.cannot_approve is not None:
            raise self.cannot_approve
        self.approved.append(policies)

    def _require(self) -> None:
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture(scope="module")
def owner() -> OwnerKey:
    return OwnerKey.generate()


@pytest.fixture(scope="module")
def file(owner: OwnerKey) -> bytes:
    return update_file(image(NEW), owner, statement_of(image(NEW), policies=(POLICY,)))


@pytest.fixture
async def box(tmp_path: Path, owner: OwnerKey) -> Box:
    made = Box(tmp_path, owner)
    await made.sealer.raise_floor(FLOOR)
    return made


def state_of(updates: Updates) -> UpdateState:
    return updates.known.state


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for begins in range(0, len(content), 50_000):
        yield content[begins : begins + 50_000]


async def test_an_update_is_approved_and_durable_before_it_is_asked_for(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        statement = await updates.stage(pieces(file))
        assert (statement.version, updates.known.state) == (NEW, UpdateState.STAGED)
        assert box.approved == [(POLICY,)]
        (body,) = await box.bodies("update_staged")
        staged = msgspec.convert(body, UpdateStagedEntry)
        assert (staged.before, staged.version, staged.number, staged.resets) == (OLD, NEW, FLOOR + 1, 1)
        assert (box.spool / "update").read_bytes() == file
        assert (box.spool / "request").read_text() == staged.asked.hex()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda file: file[:-1], "update_truncated"),
        (lambda file: file[:-1] + b"\0", "update_damaged"),
        (lambda _: update_file(image(NEW), None), "update_unsigned"),
        (lambda _: update_file(image(NEW), OwnerKey.generate()), "update_foreign"),
        (lambda _: b"MZ", "update_malformed"),
    ],
)
async def test_a_refused_update_leaves_nothing_behind(
    box: Box, file: bytes, harm: Callable[[bytes], bytes], code: str
) -> None:
    async with box.started() as updates:
        size = box.ledger.head.size
        with pytest.raises(Rejected) as refusal:
            await updates.stage(pieces(harm(file)))
        assert refusal.value.code == code
        assert (box.ledger.head.size, list(box.spool.iterdir()), box.approved) == (size, [], [])
        assert state_of(updates) is UpdateState.NONE
        await updates.stage(pieces(file))  # and the right one is taken


async def test_a_caller_that_hangs_up_leaves_nothing_behind(box: Box, file: bytes) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield file[:100_000]
        raise ConnectionResetError

    async with box.started() as updates:
        with pytest.raises(ConnectionResetError):
            await updates.stage(broken())
        assert list(box.spool.iterdir()) == []


async def test_a_disk_that_fills_up_at_the_last_moment_leaves_nothing_behind(box: Box, file: bytes) -> None:
    box.cannot_approve = OSError(errno.ENOSPC, "no space")
    async with box.started() as updates:
        size = box.ledger.head.size
        with pytest.raises(OSError, match="no space"):
            await updates.stage(pieces(file))
        assert (box.ledger.head.size, list(box.spool.iterdir())) == (size, [])
        box.cannot_approve = None
        await updates.stage(pieces(file))


async def test_one_update_at_a_time(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
        with pytest.raises(Rejected, match="update_in_progress"):
            await updates.stage(pieces(file))
        assert (box.spool / "request").exists()


async def test_an_update_that_would_leave_too_little_room_is_refused_at_its_head(box: Box, file: bytes) -> None:
    box.room_bytes_min = 1 << 60
    async with box.started() as updates:
        with pytest.raises(Unavailable, match="update_no_room"):
            await updates.stage(pieces(file))
        assert list(box.spool.iterdir()) == []


async def test_the_state_of_the_box_decides_whether_an_update_may_begin(box: Box, file: bytes) -> None:
    box.refusal = Unavailable("device_locked", "stocktaking")
    async with box.started() as updates:
        with pytest.raises(Unavailable, match="device_locked"):
            await updates.stage(pieces(file))


async def test_power_lost_between_entry_and_request_is_asked_again(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
    (box.spool / "request").unlink()
    async with box.started() as updates:
        await box.looks(updates)
        assert (box.spool / "request").read_text() == updates.known.asked.hex()
    (box.spool / "request").unlink()
    (box.spool / "update").unlink()
    async with box.started() as updates:
        await box.looks(updates)
        assert (updates.known.state, updates.known.code) == (UpdateState.FELL_BACK, "update_lost")


async def test_a_new_image_sells_before_it_is_ready_and_is_confirmed_by_the_boot_loader(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
    box.boots(NEW)
    async with box.started() as updates:
        assert state_of(updates) is UpdateState.TRYING
        assert len(await box.bodies(SELF_TEST_SALE)) == 1
        box.reports(updates, Installing.TRYING)
        os.utime(box.spool / "request", ns=(0, 0))
        await box.looks(updates)
        assert await box.sealer.floor() == FLOOR  # the old image must still open the PIN
        assert (box.spool / "request").stat().st_mtime_ns > 0  # and the installer was asked to look again
        box.reports(updates, Installing.CONFIRMED)
        await box.looks(updates)
        assert state_of(updates) is UpdateState.CONFIRMED
        assert await box.sealer.floor() == FLOOR + 1
        (body,) = await box.bodies("update_confirmed")
        assert msgspec.convert(body, UpdateConfirmedEntry).version == NEW
        assert list(box.spool.iterdir()) == []
        with pytest.raises(Rejected, match="update_older"):
            await updates.stage(pieces(file))


async def test_nothing_of_the_shop_counts_the_test_sale(box: Box) -> None:
    async with box.started():
        shown = await box.ledger.read(lambda connection: tables_digest(connection, projections()))
        seq = await sell_to_itself(
            ledger=box.ledger, admission=box.admission, clock=box.clock, currency="EUR", version=OLD
        )
        assert box.ledger.head.size == seq + 1
        assert await box.ledger.read(lambda connection: tables_digest(connection, projections())) == shown


async def test_a_new_image_is_not_ready_without_a_start_from_cold(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
    box.version = NEW
    with pytest.raises(Unavailable, match="update_not_cold"):
        async with box.started():
            pass


async def test_a_new_image_that_cannot_sell_is_not_ready_and_the_old_one_says_why(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
        asked = updates.known.asked
    box.boots(NEW)
    box.admission.refusal = Unavailable("signing_down", "the token is silent")
    with pytest.raises(TillstoneError, match="signing_down"):
        async with box.started():
            pass
    box.admission.refusal = None
    box.boots(OLD)
    async with box.started() as updates:
        assert updates.known.asked == asked
        box.reports(updates, Installing.FELL_BACK, code="update_not_healthy", detail="after 3 tries")
        await box.looks(updates)
        assert state_of(updates) is UpdateState.FELL_BACK
        (body,) = await box.bodies("update_fell_back")
        fallen = msgspec.convert(body, UpdateFellBackEntry)
        assert (fallen.code, fallen.before, fallen.version) == ("update_not_healthy", OLD, NEW)
        assert fallen.detail == "after 3 tries; signing_down: the token is silent"
        assert await box.sealer.floor() == FLOOR
        await updates.stage(pieces(file))  # it may be tried again


async def test_what_the_installer_refuses_is_an_entry_and_the_box_goes_on(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
        box.reports(updates, Installing.REFUSED, code="update_no_room", detail="the boot partition is full")
        await box.looks(updates)
        assert (updates.known.state, updates.known.code) == (UpdateState.FELL_BACK, "update_no_room")
        assert list(box.spool.iterdir()) == []


async def test_a_report_about_another_request_says_nothing(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
        report = Report(asked="00" * 16, state=Installing.REFUSED, code="update_damaged", boot="b")
        (box.folder / "report.json").write_bytes(msgspec.json.encode(report))
        await box.looks(updates)
        assert state_of(updates) is UpdateState.STAGED


@pytest.mark.parametrize("trouble", ["is_away", "loses_answers"])
async def test_a_tpm_that_is_away_or_silent_at_the_confirmation_is_asked_again(
    box: Box, file: bytes, trouble: str
) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
    box.boots(NEW)
    async with box.started() as updates:
        box.reports(updates, Installing.CONFIRMED)
        setattr(box.sealer, trouble, True)
        await box.looks(updates)
        assert state_of(updates) is UpdateState.TRYING
        setattr(box.sealer, trouble, False)
        await box.looks(updates)
        assert (updates.known.state, await box.sealer.floor()) == (UpdateState.CONFIRMED, FLOOR + 1)


async def test_power_lost_after_the_floor_was_raised_is_confirmed_at_the_next_start(box: Box, file: bytes) -> None:
    async with box.started() as updates:
        await updates.stage(pieces(file))
    box.boots(NEW)
    async with box.started() as updates:
        box.reports(updates, Installing.CONFIRMED)
    await box.sealer.raise_floor(FLOOR + 1)
    box.boots(NEW)
    async with box.started() as updates:
        await box.looks(updates)
        assert state_of(updates) is UpdateState.CONFIRMED
        assert len(await box.bodies(SELF_TEST_SALE)) == 2
        assert len(await box.bodies("update_tried")) == 1
