"""The ledger of a world without its threads: a step of the loop writes what waits as one group, at once.

A crash inside a group is a cut through the recording of its disk (`disk.py`).

Owns where a commit is cut in two. Must never decide that it is: `world.py` does.
"""

from __future__ import annotations

import contextvars
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from appliance.ledger.group import Append
from appliance.ledger.ledger import Ledger
from appliance.ledger.wal import WalKeeper
from appliance.ledger.writer import Settled, Writer
from tests.world.disk import WorldDisk
from tests.world.loop import Machine, WorldLoop, threadlike


@dataclass(slots=True, kw_only=True)
class CommitCut:
    """A plan to lose power inside the `left`-th commit from now, `share` of the way through what it writes."""

    left: int
    share: float


@dataclass(slots=True, kw_only=True, eq=False)
class Life:
    """What one life of the box stands on.

    Attributes:
        cut: where it is to end inside a commit; `on_cut` is then called with the disk's position.
        is_stuck: its writer is inside the commit that it never leaves.
    """

    machine: Machine
    loop: WorldLoop
    disk: WorldDisk
    randomness: random.Random
    on_cut: Callable[[int], None]
    cut: CommitCut | None = None
    is_stuck: bool = False


LIFE: Final[contextvars.ContextVar[Life]] = contextvars.ContextVar("life")


class SteppedWriter(Writer):
    """The real writer without its thread: a step of the loop takes what waits and writes it as one group."""

    _life: Life
    _is_due = False

    @override
    def start(self) -> None:
        self._life = LIFE.get()
        real_settle, self._settle = self._settle, self._hold
        self._real_settle = real_settle
        self._held: list[tuple[int, Settled]] = []

    @override
    def submit(self, append: Append) -> None:
        super().submit(append)
        if not self._is_due:
            self._is_due = True
            self._life.loop.call_later(self._life.randomness.expovariate(1_000), self._step)

    @override
    def close(self) -> None:
        while self._queue:
            self._step()
        self._is_closing = True

    def _hold(self, settled: Settled) -> None:
        self._held.append((self._life.disk.position, settled))

    def _step(self) -> None:
        life = self._life
        if life.is_stuck or not self._queue:
            self._is_due = False
            return
        before = life.disk.position
        with threadlike():
            is_well = self._write_group(self._take())
        self._is_due = is_well and bool(self._queue)
        if self._is_due:
            life.loop.call_later(life.randomness.expovariate(1_000), self._step)
        position = life.disk.position
        if life.cut is not None:
            life.cut.left -= 1
            if life.cut.left <= 0:
                position = before + round(life.cut.share * (position - before))
                life.is_stuck = True
        told, self._held = [settled for at, settled in self._held if at <= position], []
        for settled in told:
            self._real_settle(settled)
        if life.is_stuck:
            # What was answered before the power went may still leave the box.
            life.loop.call_later(0.2 if told else 0.0, life.on_cut, position)


class SteppedWalKeeper(WalKeeper):
    """Checkpoints now and then, in the writer's step."""

    @override
    def start(self) -> None:
        self._life = LIFE.get()

    @override
    def close(self) -> None:
        pass

    @override
    def after_commit(self, writer: sqlite3.Connection) -> None:
        if self._life.randomness.random() < 0.02:
            mode = self._life.randomness.choice(("PASSIVE", "RESTART"))
            writer.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()


class WorldLedger(Ledger):
    """The real ledger on the world's loop."""

    @override
    def _new_writer(self) -> Writer:
        self._wal = SteppedWalKeeper(self._folder, self._fail)
        self._wal.start()
        return SteppedWriter(
            connection=self._opened.connection,
            projector=self._opened.projector,
            wal=self._wal,
            tail=self._prover.tail,
            settle=self._settle,
            fail=self._fail,
        )
