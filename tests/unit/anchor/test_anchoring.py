"""Own anchors against a chain in memory: once each, through crashes, reorganisations and fee bumps."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest

from appliance.anchor.anchoring import CONFIRMATIONS, Anchoring, Fees, Settled
from appliance.anchor.anchors import anchor_of
from appliance.anchor.store import EvidenceStore
from appliance.evidence.block import REGTEST
from appliance.evidence.ots import Proof
from appliance.evidence.ots_file import decode_timestamp, encode_proof
from appliance.evidence.timestamp import verify_timestamp
from appliance.evidence.transaction import anchor_transaction
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.ports.chain import BlockHash, TransactionId
from appliance.runtime.log import Log
from tests.bitcoin import KEY
from tests.consensus import ConsensusEngine, consensus_engine
from tests.fakes.chain import FakeChain
from tests.fakes.clock import FakeClock
from tests.regtest import mine

MATURITY = 100  # blocks before a subsidy may be spent
T = TypeVar("T")


class Killed(BaseException):
    """The process ends here."""


class Rig:
    """An anchoring box that can be killed between two effects, and the world that outlives it."""

    def __init__(self, store: EvidenceStore, engine: ConsensusEngine | None) -> None:
        self.store = store
        self.chain = FakeChain()
        if engine is not None:
            self.chain.on_block, self.chain.on_tip = engine.take, engine.expect
        self.chain.mine(4, script=KEY.script)
        self.chain.mine(MATURITY)
        self.clock = FakeClock()
        self.claims: list[int] = []
        self.cap_sat = 100_000
        self.kill_at: int | None = None
        self.has_died = False
        self._effects = 0
        self.restart()

    def restart(self) -> None:
        self.anchoring = Anchoring(
            store=self,
            chain=self,
            key=KEY,
            funds=[self.chain.subsidy(height).outpoint for height in (1, 2)],
            fees=Fees(per_day_max_sat=self.cap_sat),
            clock=self.clock,
            log=Log(sink=lambda _line: None, clock=self.clock),
        )

    # Every effect counts twice: killed before it, killed after it.
    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self.store.read(query)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        self._maybe_die()
        result = await self.store.write(change)
        self._maybe_die()
        return result

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.chain, name)
        if name != "broadcast":
            return verb

        async def broadcast(raw: bytes, transaction_id: TransactionId) -> None:
            self._maybe_die()
            await verb(raw, transaction_id)
            self._maybe_die()

        return broadcast

    def _maybe_die(self) -> None:
        if self.kill_at == self._effects:
            self.kill_at, self.has_died = None, True
            raise Killed
        self._effects += 1

    async def begin(self, about: bytes = b"1") -> bytes:
        digest = hashlib.sha256(about).digest()
        await self.anchoring.begin(digest, lambda _, number: self.claims.append(number))
        return digest

    async def settle(self, number: int = 1, blocks: int = CONFIRMATIONS) -> Settled | None:
        self.chain.mine(blocks)
        await self.anchoring.tend()
        return await self.anchoring.settled(number)

    async def proves(self, digest: bytes, settled: Settled | None) -> None:
        """The timestamp verifies offline under the headers of the best chain."""
        assert settled is not None
        encoded = encode_proof(Proof(timestamp=decode_timestamp(settled.timestamp, digest)))
        hashes = [await self.chain.block_hash(settled.height + at) for at in range(CONFIRMATIONS)]
        headers = [await self.chain.header(block_hash or BlockHash(b"")) for block_hash in hashes]
        assert None not in headers
        attested = verify_timestamp(encoded, digest, [each or b"" for each in headers], network=REGTEST)
        assert (attested.height, attested.block_hash) == (settled.height, settled.block_hash)


@pytest.fixture(params=["memory", "consensus engine"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Everything twice: once more with Bitcoin Core's rules as a judge of every block and of who wins."""
    with ExitStack() as stack:
        engine = None
        if request.param != "memory":
            engine = stack.enter_context(consensus_engine(tmp_path / "engine"))
        store = await EvidenceStore.open(tmp_path)
        yield Rig(store, engine)
        await store.close()


async def test_an_anchor_is_settled_after_six_blocks_and_not_before(rig: Rig) -> None:
    digest = await rig.begin()
    assert await rig.settle(blocks=CONFIRMATIONS - 1) is None
    settled = await rig.settle(blocks=1)
    await rig.proves(digest, settled)
    assert rig.chain.anchors == [digest]
    assert rig.claims == [1]


async def test_anchors_form_one_line_of_coins(rig: Rig) -> None:
    digests = []
    for number in range(1, 4):
        digests.append(await rig.begin(bytes([number])))
        assert await rig.settle(number) is not None
    assert rig.chain.anchors == digests
    spent = [coin for each in rig.chain.confirmed_anchors for coin in each.inputs]
    assert spent[0] == rig.chain.subsidy(1).outpoint
    assert [point.transaction_id for point in spent[1:]] == [
        each.transaction_id for each in rig.chain.confirmed_anchors[:-1]
    ]


async def test_one_anchor_waits_at_a_time(rig: Rig) -> None:
    await rig.begin(b"1")
    with pytest.raises(Unavailable) as refusal:
        await rig.begin(b"2")
    assert refusal.value.code == "anchor_busy"
    assert rig.claims == [1]


@pytest.mark.parametrize("kill_at", range(14))
async def test_killed_anywhere_it_neither_skips_nor_doubles_an_anchor(rig: Rig, kill_at: int) -> None:
    rig.kill_at = kill_at
    digest = hashlib.sha256(b"1").digest()
    for hour in range(30):
        try:
            await rig.anchoring.tend()
            if not rig.chain.anchors and not await rig.anchoring.is_busy():
                await rig.begin()
            if hour == 4:
                rig.chain.rate = 9_000  # the first version is too cheap, and this node replaces it
            if hour > 6:
                rig.chain.mine()
        except Killed:
            rig.restart()
        rig.clock.pass_time(HOUR_MS)
    assert rig.has_died
    assert rig.chain.anchors == [digest]
    await rig.proves(digest, await rig.anchoring.settled(1))


async def test_a_lost_answer_is_not_a_second_anchor(rig: Rig) -> None:
    rig.chain.loses_answers = True
    digest = await rig.begin()
    rig.chain.loses_answers = False
    await rig.anchoring.tend()
    await rig.proves(digest, await rig.settle())
    assert rig.chain.anchors == [digest]


async def test_a_fee_bump_keeps_exactly_one_anchor_whichever_version_is_mined(rig: Rig) -> None:
    for number, mines_first in enumerate((False, True), start=1):
        digest = await rig.begin(bytes([number]))
        first = rig.chain.broadcasts[-1]
        rig.chain.rate = 20_000
        rig.clock.pass_time(3 * HOUR_MS)
        await rig.anchoring.tend()
        second = rig.chain.broadcasts[-1]
        assert second != first
        assert list(rig.chain.waiting) == [second]
        rig.chain.mine(only=[first if mines_first else second])
        await rig.proves(digest, await rig.settle(number))
        assert rig.chain.anchors.count(digest) == 1
        rig.chain.rate = 2_000


async def test_a_node_that_replaces_nothing_keeps_the_first_version(rig: Rig) -> None:
    digest = await rig.begin()
    first = rig.chain.broadcasts[-1]
    rig.clock.pass_time(3 * HOUR_MS)
    rig.chain.replaces = False
    await rig.anchoring.tend()
    assert list(rig.chain.waiting) == [first]
    await rig.proves(digest, await rig.settle())


async def test_a_reorganisation_rebuilds_the_proof_from_the_new_block(rig: Rig) -> None:
    digest = await rig.begin()
    before = await rig.settle()
    rig.chain.reorganise(CONFIRMATIONS, [[] for _ in range(CONFIRMATIONS + 1)])
    await rig.anchoring.tend()
    assert await rig.anchoring.settled(1) is None
    after = await rig.settle()
    assert before is not None
    assert after is not None
    assert after.block_hash != before.block_hash
    await rig.proves(digest, after)
    assert rig.chain.anchors == [digest]


async def test_a_reorganisation_below_leaves_a_deep_anchor_alone(rig: Rig) -> None:
    digest = await rig.begin()
    before = await rig.settle(blocks=10)
    rig.chain.reorganise(3, [[] for _ in range(4)])
    await rig.anchoring.tend()
    assert await rig.anchoring.settled(1) == before
    await rig.proves(digest, before)


async def test_a_coin_that_a_reorganisation_replaced_is_replaced(rig: Rig) -> None:
    first_digest = await rig.begin(b"1")
    first = rig.chain.broadcasts[-1]
    rig.chain.rate = 20_000
    rig.clock.pass_time(3 * HOUR_MS)
    await rig.anchoring.tend()
    rig.chain.mine()  # the second version
    await rig.anchoring.tend()
    second_digest = await rig.begin(b"2")
    rig.chain.mine()
    await rig.anchoring.tend()
    # Both blocks lose; the winning branch holds the first version, so the second anchor's coin does not exist.
    rig.chain.reorganise(2, [[first], [], []])
    await rig.anchoring.tend()
    await rig.anchoring.tend()
    await rig.settle(1)
    await rig.settle(2)
    assert rig.chain.anchors == [first_digest, second_digest]
    await rig.proves(first_digest, await rig.anchoring.settled(1))
    await rig.proves(second_digest, await rig.anchoring.settled(2))


async def test_the_daily_cap_stops_new_anchors_and_bumps_but_not_old_ones(rig: Rig) -> None:
    rig.cap_sat = 900
    rig.restart()
    digest = await rig.begin(b"1")  # 330 sat
    rig.chain.rate = 9_000
    rig.clock.pass_time(3 * HOUR_MS)
    await rig.anchoring.tend()
    assert len(rig.chain.broadcasts) == 1
    await rig.proves(digest, await rig.settle())
    with pytest.raises(Rejected) as refusal:
        await rig.begin(b"2")
    assert refusal.value.code == "anchor_fee_cap_reached"
    rig.chain.rate = 2_000
    rig.clock.pass_time(DAY_MS)
    await rig.begin(b"2")


async def test_without_a_coin_it_says_so_and_writes_nothing(rig: Rig) -> None:
    strangers = rig.chain.subsidy(5).outpoint
    rig.anchoring = Anchoring(
        store=rig,
        chain=rig.chain,
        key=KEY,
        funds=[strangers],
        fees=Fees(per_day_max_sat=9_000),
        clock=rig.clock,
        log=Log(sink=lambda _line: None, clock=rig.clock),
    )
    with pytest.raises(Rejected) as refusal:
        await rig.begin()
    assert refusal.value.code == "anchor_coin_missing"
    assert rig.claims == []


async def test_a_node_that_lost_blocks_is_waited_for(rig: Rig) -> None:
    await rig.begin()
    await rig.settle()
    rig.chain.forget(3)
    with pytest.raises(Unavailable) as trouble:
        await rig.anchoring.tend()
    assert trouble.value.code == "chain_behind"
    assert await rig.anchoring.settled(1) is not None


async def test_every_version_belongs_to_its_anchor(rig: Rig) -> None:
    await rig.begin()
    sent = rig.chain.broadcasts[-1]
    found = await rig.store.read(lambda connection: anchor_of(connection, sent))
    assert found is not None
    assert found.number == 1
    assert (
        await rig.store.read(lambda connection: anchor_of(connection, TransactionId(Random(1).randbytes(32)))) is None
    )


async def test_the_judge_refuses_a_second_version_and_a_false_signature(tmp_path: Path) -> None:
    with consensus_engine(tmp_path) as engine:
        chain = FakeChain()
        chain.on_block, chain.on_tip = engine.take, engine.expect
        chain.mine(1, script=KEY.script)
        chain.mine(MATURITY)
        digest = hashlib.sha256(b"1").digest()
        true, other = (anchor_transaction(digest, [chain.subsidy(1)], fee_sat=fee, key=KEY) for fee in (500, 900))
        tip = await chain.tip()
        forged = bytearray(true.raw)
        forged[-50] ^= 1
        for transactions in ([(bytes(forged), true.stripped)], [(each.raw, each.stripped) for each in (true, other)]):
            block = mine(height=tip.height + 1, previous=tip.block_hash, transactions=transactions)
            engine.take(block.encoded)
            engine.expect(tip.block_hash)
        block = mine(height=tip.height + 1, previous=tip.block_hash, transactions=[(true.raw, true.stripped)])
        engine.take(block.encoded)
        engine.expect(block.block_hash)
