"""A log, what it gathered, and three witnesses, for tests of the witness follower."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.anchor.fork_proof import ForkProof
from appliance.anchor.store import EvidenceStore
from appliance.anchor.witnesses import Witnesses
from appliance.device.admission import Quarantine
from appliance.evidence.cosignature import WitnessPolicy
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.witness import FakeWitness
from tests.unit.ledger.shop import genesis
from tests.upstream import NOTE_KEY, WitnessedLog, post_quantum, witnessed_log


def fake_witness(name: str) -> FakeWitness:
    """One that knows the shop's log."""
    return FakeWitness(name=name, origin=genesis().read().origin, note_key=NOTE_KEY, post_quantum=post_quantum())


class Shop:
    """A log, its store and three witnesses of which two are needed."""

    def __init__(self, folder: Path, log: WitnessedLog, store: EvidenceStore, clock: FakeClock) -> None:
        self.folder = folder
        self.log = log
        self.store = store
        self.clock = clock
        self.quarantine = Quarantine()
        self.metrics = Metrics()
        self.witnesses = [fake_witness(f"w{number}.example") for number in (1, 2, 3)]

    def policy(self, needed: int = 2) -> WitnessPolicy:
        """All three count."""
        return WitnessPolicy(keys=tuple(key for each in self.witnesses for key in each.keys), needed=needed)

    def follower(self, log: WitnessedLog | None = None, needed: int = 2) -> Witnesses:
        """As after a start of the box."""
        return Witnesses(
            ledger=(log or self.log).ledger,
            checkpoints=(log or self.log).checkpoints,
            witnesses=self.witnesses,
            policy=self.policy(needed),
            store=self.store,
            proof=ForkProof((log or self.log).ledger, self.folder),
            quarantine=self.quarantine.set,
            clock=self.clock,
            metrics=self.metrics,
            log=Log(sink=lambda _line: None, clock=self.clock),
        )


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    """A shop with three sales, none of them witnessed yet."""
    clock = FakeClock()
    store = await EvidenceStore.open(folder)
    async with witnessed_log(folder / "ledger", clock) as log:
        await log.grow(3)
        yield Shop(folder, log, store, clock)
    await store.close()
