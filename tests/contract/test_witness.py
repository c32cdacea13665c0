"""One promise list for the fake witness and for the real server: its own process, on a real PostgreSQL, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from appliance.adapters.witness_http import HttpWitness
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy, require_quorum
from appliance.ledger.checkpoint import verify_head
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.witness import Cosigned, NotConsistent, OtherHead, Witness
from tests.fakes.witness import FakeWitness
from tests.postgres import Postgres, running_postgres
from tests.unit.ledger.shop import genesis
from tests.upstream import NAME, NOTE_KEY, WitnessedLog, WitnessProcess, post_quantum, witnessed_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    witness: Witness
    keys: tuple[WitnessKey, ...]

    def policy(self) -> WitnessPolicy:
        return WitnessPolicy(keys=self.keys, needed=1)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["fake", "server"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WitnessProcess | None]:
    """The real one; none where the fake stands."""
    if request.param == "fake":
        yield None
        return
    started = WitnessProcess(tmp_path / "witness", request.getfixturevalue("postgres").new_database())
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
async def rig(process: WitnessProcess | None) -> AsyncIterator[Rig]:
    if process is None:
        fake = FakeWitness(name=NAME, origin=genesis().read().origin, note_key=NOTE_KEY, post_quantum=post_quantum())
        yield Rig(witness=fake, keys=fake.keys)
        return
    async with aiohttp.ClientSession() as http:
        yield Rig(witness=HttpWitness(name=NAME, prefix=process.url, http=http), keys=process.keys)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[WitnessedLog]:
    async with witnessed_log(tmp_path / "ledger") as log:
        yield log


@pytest.fixture
async def fork(tmp_path: Path) -> AsyncIterator[WitnessedLog]:
    async with witnessed_log(tmp_path / "fork") as log:
        yield log


def text_of(note: bytes) -> bytes:
    return note.partition(b"\n\n")[0] + b"\n"


async def test_a_first_head_is_cosigned_with_every_key(rig: Rig, log: WitnessedLog) -> None:
    note = await log.grow(3)
    answer = await rig.witness.add_checkpoint(old_size=0, proof=(), note=note)
    assert isinstance(answer, Cosigned)
    assert len(require_quorum(text_of(note), answer.lines, rig.policy())) == 2


async def test_a_head_that_extends_the_last_is_cosigned(rig: Rig, log: WitnessedLog) -> None:
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=await log.grow(3))
    note = await log.grow(300)
    proof = await log.ledger.consistency(5, 305)
    answer = await rig.witness.add_checkpoint(old_size=5, proof=proof, note=note)
    assert isinstance(answer, Cosigned)
    assert require_quorum(text_of(note), answer.lines, rig.policy())


async def test_the_same_head_again_is_the_same_answer(rig: Rig, log: WitnessedLog) -> None:
    note = await log.grow(3)
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=note)
    assert isinstance(await rig.witness.add_checkpoint(old_size=5, proof=(), note=note), Cosigned)


async def test_another_old_size_is_told_the_right_one(rig: Rig, log: WitnessedLog) -> None:
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=await log.grow(3))
    note = await log.grow(3)
    assert await rig.witness.add_checkpoint(old_size=0, proof=(), note=note) == OtherHead(size=5)
    proof = await log.ledger.consistency(4, 8)
    assert await rig.witness.add_checkpoint(old_size=4, proof=proof, note=note) == OtherHead(size=5)


async def test_a_shrunken_log_is_refused(rig: Rig, log: WitnessedLog) -> None:
    short = await log.grow(3)
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=await log.grow(5))
    assert await rig.witness.add_checkpoint(old_size=0, proof=(), note=short) == OtherHead(size=10)
    with pytest.raises(Rejected, match="witness_refused"):
        await rig.witness.add_checkpoint(old_size=10, proof=(), note=short)


async def test_a_rewritten_log_of_the_same_size_is_refused(rig: Rig, log: WitnessedLog, fork: WitnessedLog) -> None:
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=await log.grow(3))
    other = await fork.grow(3, "other")
    assert await rig.witness.add_checkpoint(old_size=5, proof=(), note=other) == OtherHead(size=5)


async def test_a_forked_log_is_refused_and_the_honest_one_goes_on(
    rig: Rig, log: WitnessedLog, fork: WitnessedLog
) -> None:
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=await log.grow(3))
    other = await fork.grow(9, "other")
    proof = await fork.ledger.consistency(5, 11)
    assert await rig.witness.add_checkpoint(old_size=5, proof=proof, note=other) == NotConsistent()
    note = await log.grow(6)
    proof = await log.ledger.consistency(5, 11)
    assert isinstance(await rig.witness.add_checkpoint(old_size=5, proof=proof, note=note), Cosigned)


async def test_a_first_head_has_no_proof(rig: Rig, log: WitnessedLog) -> None:
    note = await log.grow(3)
    assert await rig.witness.add_checkpoint(old_size=0, proof=(bytes(32),), note=note) == NotConsistent()


async def test_the_checkpoint_that_it_holds_is_shown_with_the_words_of_log_and_witness(
    rig: Rig, log: WitnessedLog, fork: WitnessedLog
) -> None:
    origin, keys = log.ledger.statement.origin, log.ledger.keys
    with pytest.raises(Unavailable, match="witness_away"):
        await rig.witness.latest_checkpoint(origin)
    note = await log.grow(3)
    await rig.witness.add_checkpoint(old_size=0, proof=(), note=note)
    await rig.witness.add_checkpoint(old_size=5, proof=(), note=await fork.grow(3, "other"))
    shown = await rig.witness.latest_checkpoint(origin)
    assert verify_head(shown, origin=origin, keys=keys).root == log.ledger.head.root
    assert require_quorum(text_of(shown), shown.partition(b"\n\n")[2], rig.policy())
    with pytest.raises(Unavailable, match="witness_away"):
        await rig.witness.latest_checkpoint("shop.example/SN-9/1")


@pytest.mark.parametrize("line", [0, 1])
async def test_a_head_with_one_of_two_signatures_is_refused(rig: Rig, log: WitnessedLog, line: int) -> None:
    text, _, lines = (await log.grow(3)).partition(b"\n\n")
    one = text + b"\n\n" + lines.splitlines(keepends=True)[line]
    with pytest.raises(Rejected, match="witness_refused"):
        await rig.witness.add_checkpoint(old_size=0, proof=(), note=one)


async def test_a_head_of_an_unknown_log_is_refused(rig: Rig, log: WitnessedLog) -> None:
    note = (await log.grow(3)).replace(b"shop.example/SN-1/1", b"shop.example/SN-9/1")
    with pytest.raises(Rejected, match="witness_refused"):
        await rig.witness.add_checkpoint(old_size=0, proof=(), note=note)


async def test_what_is_no_note_is_refused(rig: Rig) -> None:
    with pytest.raises(Rejected, match="witness_refused"):
        await rig.witness.add_checkpoint(old_size=0, proof=(), note=b"shop.example/SN-1/1\n5\n\nx")
