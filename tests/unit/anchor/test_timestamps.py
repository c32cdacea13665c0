"""The follower of timestamps on a real ledger, with real calendars over a chain in memory."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from appliance.adapters.calendar_http import HttpCalendar
from appliance.anchor.anchoring import CONFIRMATIONS, Anchoring, Fees
from appliance.anchor.stamps import OWN, Stamp, State, newest_picked, split_headers
from appliance.anchor.store import EvidenceStore
from appliance.anchor.timestamps import Node, Rules, Timestamps
from appliance.evidence.block import REGTEST
from appliance.evidence.ots import InBlock, timestamp_through
from appliance.evidence.ots_file import encode_timestamp
from appliance.evidence.timestamp import verify_timestamp
from appliance.model.errors import Unavailable
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.runtime.log import Log
from provisioning.upstream.calendar import Calendar
from provisioning.upstream.calendar_store import CalendarStore
from tests.bitcoin import KEY
from tests.fakes.chain import FakeChain
from tests.fakes.clock import FakeClock
from tests.upstream import WitnessedLog, witnessed_log

RULES = Rules(every_ms=HOUR_MS, fallback_after_ms=6 * HOUR_MS, late_after_ms=DAY_MS)


class SwitchedCalendar:
    """A real calendar behind a switch: away, lying about a block, or killing the box after it has answered."""

    def __init__(self, calendar: HttpCalendar) -> None:
        self._calendar = calendar
        self.is_away = False
        self.lies = False
        self.kills = False
        self.submitted: list[bytes] = []

    @property
    def address(self) -> str:
        return self._calendar.address

    async def submit(self, digest: bytes) -> bytes:
        self._answer()
        answer = await self._calendar.submit(digest)
        self.submitted.append(answer)
        if self.kills:
            self.kills = False
            raise Killed
        return answer

    async def lookup(self, commitment: bytes) -> bytes | None:
        self._answer()
        if self.lies:
            return encode_timestamp(timestamp_through(commitment, [], InBlock(height=1)))
        return await self._calendar.lookup(commitment)

    def _answer(self) -> None:
        if self.is_away:
            raise Unavailable("calendar_away", f"{self.address} is away")


class Killed(BaseException):
    """The box ends here."""


class Office:
    """Two calendars, a chain with money for everybody, and a box that follows."""

    def __init__(self, log: WitnessedLog, store: EvidenceStore, clock: FakeClock) -> None:
        self.log = log
        self.store = store
        self.clock = clock
        self.chain = FakeChain()
        self.chain.mine(6, script=KEY.script)
        self.calendars: list[SwitchedCalendar] = []
        self.servers: list[Calendar] = []
        self.runners: list[web.AppRunner] = []
        self.stores: list[CalendarStore] = []

    def anchoring(self, store: EvidenceStore | CalendarStore, coin: int) -> Anchoring:
        return Anchoring(
            store=store,
            chain=self.chain,
            key=KEY,
            funds=[self.chain.subsidy(coin).outpoint],
            fees=Fees(per_day_max_sat=50_000),
            clock=self.clock,
            log=Log(sink=lambda _line: None, clock=self.clock),
        )

    def box(self, *, calendars: bool = True, node: bool = True) -> Timestamps:
        """As after a start."""
        anchoring = self.anchoring(self.store, 1)
        return Timestamps(
            checkpoints=self.log.checkpoints,
            calendars=self.calendars if calendars else [],
            node=Node(chain=self.chain, network=REGTEST, anchoring=anchoring) if node else None,
            rules=RULES,
            store=self.store,
            clock=self.clock,
            log=Log(sink=lambda _line: None, clock=self.clock),
        )

    async def block(self, count: int = 1) -> None:
        """Calendars look at the chain, blocks come, calendars look again."""
        for server in self.servers:
            await server.step()
        self.chain.mine(count)
        for server in self.servers:
            await server.step()

    async def stamps(self) -> dict[tuple[int, str], State]:
        rows = await self.store.read(
            lambda connection: connection.execute("SELECT size, way, state FROM timestamps").fetchall()
        )
        return {(size, way): State(state) for size, way, state in rows}

    async def proven(self, size: int, way: str) -> None:
        """What is kept verifies as a stranger verifies it."""
        query = (
            "SELECT t.proof, t.detail, c.note FROM timestamps t JOIN checkpoints c USING (size)"
            " WHERE size = ? AND way = ?"
        )
        proof, headers, note = await self.store.read(
            lambda connection: connection.execute(query, (size, way)).fetchone()
        )
        attested = verify_timestamp(proof, hashlib.sha256(note).digest(), split_headers(headers), network=REGTEST)
        assert attested.confirmations == CONFIRMATIONS
        assert await self.chain.block_hash(attested.height) == attested.block_hash


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    clock = FakeClock()
    store = await EvidenceStore.open(tmp_path)
    async with witnessed_log(tmp_path / "ledger", clock) as log, aiohttp.ClientSession() as http:
        await log.grow(3)
        office = Office(log, store, clock)
        for number in (2, 3):
            await add_calendar(office, tmp_path, http, number)
        yield office
        for runner in office.runners:
            await runner.cleanup()
        for calendar_store in office.stores:
            await calendar_store.close()
    await store.close()


async def add_calendar(office: Office, folder: Path, http: aiohttp.ClientSession, coin: int) -> None:
    """One more calendar; its address must be known before it is built, so the socket comes first."""
    store = await CalendarStore.open(folder / f"calendar-{coin}.db")
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Calendar(
        address=address,
        store=store,
        anchoring=office.anchoring(store, coin),
        every_ms=0,
        clock=office.clock,
        log=Log(sink=lambda _line: None, clock=office.clock),
    )
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    office.runners.append(runner)
    office.servers.append(server)
    office.stores.append(store)
    office.calendars.append(SwitchedCalendar(HttpCalendar(address=address, http=http)))


async def test_a_head_is_promised_attested_and_confirmed_by_every_calendar(office: Office) -> None:
    box = office.box()
    ways = [calendar.address for calendar in office.calendars]
    await box.step()
    assert await office.stamps() == {(5, way): State.PENDING for way in ways}
    await office.block(CONFIRMATIONS)
    assert (await box.step()).size == 5
    assert await office.stamps() == {(5, way): State.CONFIRMED for way in ways}
    for way in ways:
        await office.proven(5, way)
    assert (await office.store.cursor("timestamp")).size == 5
    assert len(office.chain.anchors) == 2, "one transaction of each calendar, none of the box"


async def test_what_is_anchored_is_the_note_as_the_log_signed_it(office: Office) -> None:
    await office.box().step()
    stored = await office.store.checkpoint(5)
    assert stored is not None
    assert stored.note.count(b"\xe2\x80\x94 ") == 2, "the log's two signature lines and nobody else's"
    stamp = await office.store.read(newest_picked)
    assert stamp is not None
    assert stamp.note == stored.note


async def test_a_new_head_is_stamped_each_hour_when_the_log_has_grown(office: Office) -> None:
    box = office.box()
    await box.step()
    await office.log.grow(2)
    await box.step()
    assert {size for size, _ in await office.stamps()} == {5}
    office.clock.pass_time(HOUR_MS)
    await box.step()
    assert {size for size, _ in await office.stamps()} == {5, 7}
    office.clock.pass_time(HOUR_MS)
    await box.step()
    assert {size for size, _ in await office.stamps()} == {5, 7}, "nothing new was sold"


async def test_one_calendar_away_holds_up_nobody_and_is_told(office: Office) -> None:
    away, here = office.calendars
    away.is_away = True
    box = office.box()
    with pytest.raises(Unavailable, match="is away") as told:
        await box.step()
    assert told.value.code == "timestamp_waiting"
    assert await office.stamps() == {(5, away.address): State.WANTED, (5, here.address): State.PENDING}
    away.is_away = False
    await box.step()
    assert set((await office.stamps()).values()) == {State.PENDING}


async def test_killed_after_a_promise_it_asks_again_and_gets_the_same(office: Office) -> None:
    first, _ = office.calendars
    first.kills = True
    with pytest.raises(Killed):
        await office.box().step()
    await office.box().step()
    assert len(first.submitted) == 2
    assert len(set(first.submitted)) == 1
    await office.block(CONFIRMATIONS)
    await office.box().step()
    assert set((await office.stamps()).values()) == {State.CONFIRMED}
    assert len(office.chain.anchors) == 2


async def test_a_calendar_that_lies_about_a_block_is_not_believed(office: Office) -> None:
    liar, honest = office.calendars
    box = office.box()
    await box.step()
    liar.lies = True
    await office.block(CONFIRMATIONS)
    await box.step()
    assert await office.stamps() == {(5, liar.address): State.PENDING, (5, honest.address): State.CONFIRMED}
    liar.lies = False
    await box.step()
    await office.proven(5, liar.address)


async def test_when_calendars_fail_for_hours_the_box_anchors_by_itself_once(office: Office) -> None:
    for calendar in office.calendars:
        calendar.is_away = True
    for _ in range(8):
        with pytest.raises(Unavailable, match="is away"):
            await office.box().step()
        office.clock.pass_time(HOUR_MS)
    assert (await office.stamps())[5, OWN] is State.PENDING
    assert len(office.chain.broadcasts) == 1
    office.chain.mine(CONFIRMATIONS)
    for _ in range(2):
        with pytest.raises(Unavailable, match="is away"):
            await office.box().step()
    await office.proven(5, OWN)
    assert len(office.chain.anchors) == 1


async def test_without_calendars_every_head_goes_by_an_own_transaction(office: Office) -> None:
    for size in (5, 7):
        await office.box(calendars=False).step()
        office.chain.mine(CONFIRMATIONS)
        office.clock.pass_time(HOUR_MS)
        await office.box(calendars=False).step()
        await office.proven(size, OWN)
        await office.log.grow(2)
    assert len(office.chain.anchors) == 2


@pytest.mark.parametrize("way", ["calendar", OWN])
async def test_a_reorganisation_takes_a_confirmed_timestamp_back_and_it_is_rebuilt(office: Office, way: str) -> None:
    box = office.box(calendars=way != OWN)
    await box.step()
    await office.block(CONFIRMATIONS)
    await box.step()
    assert set((await office.stamps()).values()) == {State.CONFIRMED}
    office.chain.reorganise(CONFIRMATIONS, [[] for _ in range(CONFIRMATIONS + 1)])
    await office.block(0)
    await box.step()
    assert set((await office.stamps()).values()) == {State.PENDING}
    await office.block(CONFIRMATIONS)
    await box.step()
    for size, where in await office.stamps():
        await office.proven(size, where)


async def test_without_a_node_a_timestamp_is_attested_and_no_more(office: Office) -> None:
    box = office.box(node=False)
    await box.step()
    await office.block(CONFIRMATIONS)
    assert (await box.step()).size == 5
    assert set((await office.stamps()).values()) == {State.ATTESTED}


async def test_promises_that_nobody_keeps_for_a_day_are_told(office: Office) -> None:
    box = office.box(node=False)
    await box.step()
    office.clock.pass_time(DAY_MS + 1)
    with pytest.raises(Unavailable) as told:
        await box.step()
    assert told.value.code == "timestamp_overdue"


async def test_a_node_away_holds_up_no_promise(office: Office) -> None:
    office.chain.is_away = True
    with pytest.raises(Unavailable, match="the fake was told to be away"):
        await office.box().step()
    assert set((await office.stamps()).values()) == {State.PENDING}


async def test_an_answer_with_anothers_promise_is_not_followed(office: Office) -> None:
    box = office.box()
    await box.step()
    await office.block(CONFIRMATIONS)
    stamp = await office.store.read(newest_picked)
    assert isinstance(stamp, Stamp)
    moved = "UPDATE timestamps SET proof = (SELECT proof FROM timestamps WHERE way = ?) WHERE way = ?"
    first, second = office.calendars
    await office.store.write(lambda connection: connection.execute(moved, (second.address, first.address)))
    await box.step()
    assert await office.stamps() == {(5, first.address): State.PENDING, (5, second.address): State.CONFIRMED}
