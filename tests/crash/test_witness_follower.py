"""The witness follower stopped at every durable write and every question, before it and after it, then started again.

Owns the proof that nothing is skipped and nothing doubled: whatever is cut off, the next start ends where an
undisturbed one does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from appliance.anchor.fork_proof import ForkProof
from appliance.anchor.store import EvidenceStore
from appliance.anchor.witnesses import Witnesses
from appliance.evidence.cosignature import WitnessPolicy, require_quorum
from appliance.ports.witness import Answer
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.witness import FakeWitness
from tests.unit.ledger.shop import genesis
from tests.upstream import NOTE_KEY, WitnessedLog, post_quantum, witnessed_log

T = TypeVar("T")
STOPS = 7
"""Of one undisturbed step with two witnesses: the checkpoint, two questions, two answers, the cursor; and one more."""


class Killed(BaseException):
    """The process is gone."""


class Knife:
    """Cuts at the `at`-th stop, before it happens or after it has."""

    def __init__(self, at: int, *, is_after: bool) -> None:
        self.at = at
        self.is_after = is_after
        self.passed = 0

    def before(self) -> None:
        self.passed += 1
        if self.passed == self.at and not self.is_after:
            raise Killed

    def after(self) -> None:
        if self.passed == self.at and self.is_after:
            raise Killed


class CutStore(EvidenceStore):
    """The real store under the knife."""

    knife: Knife

    async def write(self, change: Callable[..., T]) -> T:
        self.knife.before()
        result = await super().write(change)
        self.knife.after()
        return result


class CutWitness:
    """A witness whose question or answer is cut off."""

    def __init__(self, inner: FakeWitness, knife: Knife) -> None:
        self.name = inner.name
        self._inner = inner
        self._knife = knife

    async def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: bytes) -> Answer:
        self._knife.before()
        answer = await self._inner.add_checkpoint(old_size=old_size, proof=proof, note=note)
        self._knife.after()
        return answer

    async def latest_checkpoint(self, origin: str) -> bytes:
        return await self._inner.latest_checkpoint(origin)


class Box:
    """Everything that outlives a process: the log, the store's file, the witnesses."""

    def __init__(self, log: WitnessedLog, folder: Path, clock: FakeClock) -> None:
        self.log = log
        self.folder = folder
        self.clock = clock
        self.witnesses = [
            FakeWitness(
                name=f"w{number}.example",
                origin=genesis().read().origin,
                note_key=NOTE_KEY,
                post_quantum=post_quantum(),
            )
            for number in (1, 2)
        ]
        self.reasons: list[str] = []

    async def run(self, knife: Knife) -> bool:
        """One step in a new process; whether it lived to its end."""
        store = await CutStore.open(self.folder)
        assert isinstance(store, CutStore)
        store.knife = knife
        follower = self.follower(store, knife)
        try:
            await follower.step()
        except Killed:
            return False
        finally:
            await store.close()
        return True

    def follower(self, store: EvidenceStore, knife: Knife) -> Witnesses:
        return Witnesses(
            ledger=self.log.ledger,
            checkpoints=self.log.checkpoints,
            witnesses=[CutWitness(each, knife) for each in self.witnesses],
            policy=self.policy,
            store=store,
            proof=ForkProof(self.log.ledger, self.folder),
            quarantine=self.reasons.append,
            clock=self.clock,
            metrics=Metrics(),
            log=Log(sink=lambda _line: None, clock=self.clock),
        )

    @property
    def policy(self) -> WitnessPolicy:
        return WitnessPolicy(keys=tuple(key for each in self.witnesses for key in each.keys), needed=2)


NEVER = Knife(0, is_after=False)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    clock = FakeClock()
    async with witnessed_log(tmp_path / "ledger", clock) as log:
        await log.grow(3)
        yield Box(log, tmp_path, clock)


async def test_an_undisturbed_step_has_as_many_stops_as_are_cut(box: Box) -> None:
    knife = Knife(STOPS, is_after=False)
    assert await box.run(knife)
    assert knife.passed == STOPS - 1


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("at", range(1, STOPS))
@pytest.mark.parametrize("is_first", [True, False])
async def test_killed_anywhere_it_ends_where_it_would_have(box: Box, at: int, is_after: bool, is_first: bool) -> None:
    if not is_first:
        assert await box.run(NEVER)
        await box.log.grow(7)
    assert not await box.run(Knife(at, is_after=is_after))
    await box.log.grow(2)
    assert await box.run(NEVER)
    size = box.log.ledger.head.size
    assert [witness.size for witness in box.witnesses] == [size, size]
    assert box.reasons == []
    store = await EvidenceStore.open(box.folder)
    try:
        found = await box.follower(store, NEVER).newest()
        assert found is not None
        assert found.size == size == (await store.cursor("witness")).size
        text, _, lines = found.note.partition(b"\n\n")
        assert len(require_quorum(text + b"\n", lines, box.policy)) == 4
        assert len(lines.splitlines()) == 2 + 4
    finally:
        await store.close()
