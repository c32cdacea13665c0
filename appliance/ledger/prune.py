"""Pruning: the bodies of old entries are removed once others vouch for a snapshot behind them.

Owns the conditions and their order. Must never remove what is still needed, nor what nobody else vouches for.

* A `snapshot` entry holds the digest of every table. Only under a checkpoint that enough witnesses have committed and
  cosigned may entries before it go: nobody can exchange later what the box says that it was.
* A step removes at most STEP_ENTRIES in the transaction of its `pruned` entry: a sale waits for one step at most.
* The newest entries stay whatever is asked: a start reads them (recover.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.ledger.archive import Archive
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.merkle import TILE_WIDTH
from appliance.ledger.opening import with_own
from appliance.ledger.projection import Projection
from appliance.ledger.pruned import PRUNED, SNAPSHOT, PrunedBody, pruned_below
from appliance.ledger.recover import TAIL_ENTRIES
from appliance.ledger.snapshot import Snapshot, remove_others, require_whole, snapshot_at, take_snapshot
from appliance.model.errors import Corrupt, Rejected
from appliance.model.limits import DAY_MS, KEY_AGE_MAX_MS, KEY_AHEAD_MAX_MS
from appliance.ports.clock import Clock

ACTOR: Final = "operator"
STEP_ENTRIES: Final = 32 * TILE_WIDTH
KEPT_MS_MIN: Final = KEY_AGE_MAX_MS + KEY_AHEAD_MAX_MS
"""A till may ask again for so long, and must get its answer with its receipt."""

IsCosigned = Callable[[int], Awaitable[bool]]
"""Whether enough witnesses have committed and cosigned a checkpoint of at least so many entries."""
Floor = Callable[[], Awaitable[int | None]]
"""The first entry whose body somebody else still needs; None: nobody needs any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What pruning would do now.

    Attributes:
        pruned_below: bodies below are gone already.
        wanted_below: bodies below are old enough and nobody needs them.
        below: bodies below would go: `wanted_below`, as far as the snapshot reaches.
        snapshot: the newest `snapshot` entry; None when there is none.
        is_cosigned: whether it lies under a cosigned checkpoint.
    """

    size: int
    pruned_below: int
    wanted_below: int
    below: int
    snapshot: int | None
    is_cosigned: bool


class Pruning:
    """What an operator can ask; one act at a time."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        archive: Archive,
        folder: Path,
        projections: Sequence[Projection],
        clock: Clock,
        is_cosigned: IsCosigned,
        floors: Sequence[Floor] = (),
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._folder = folder
        self._projections = with_own(projections)
        self._clock = clock
        self._is_cosigned = is_cosigned
        self._floors = tuple(floors)
        self._acting = asyncio.Lock()

    async def plan(self, kept_ms: int) -> PrunePlan:
        """What `prune` would do.

        Raises:
            Rejected: `prune_too_young`: less than 91 days would be kept.
        """
        size = self._ledger.head.size
        gone = await self._archive.read(pruned_below)
        wanted = max(gone, _whole_tiles(await self._wanted(size, kept_ms)))
        newest = await self._archive.read(_newest_snapshot)
        below = gone if newest is None else max(gone, min(wanted, _whole_tiles(newest[1].size)))
        return PrunePlan(
            size=size,
            pruned_below=gone,
            wanted_below=wanted,
            below=below,
            snapshot=None if newest is None else newest[0],
            is_cosigned=newest is not None and await self._is_cosigned(newest[0] + 1),
        )

    async def take_snapshot(self) -> int:
        """Append a `snapshot` entry of the state now; returns its seq."""
        async with self._acting:
            snapshot = await asyncio.to_thread(take_snapshot, self._folder, self._projections)
            return await self._append(SNAPSHOT, snapshot.encode())

    async def prune(self, kept_ms: int) -> PrunePlan:
        """Remove what `plan` says, and return it. Broken off anywhere, the next call goes on.

        Raises:
            Rejected: as `plan`, and `snapshot_needed`, `snapshot_not_cosigned`, `nothing_to_prune`; `snapshot_missing`,
                `snapshot_damaged`: the file beside the log is not what its entry says.
        """
        async with self._acting:
            plan = await self.plan(kept_ms)
            seq = plan.snapshot
            if seq is None or (plan.below == plan.pruned_below < plan.wanted_below):
                raise Rejected("snapshot_needed", f"no snapshot lies behind the entries below {plan.wanted_below}")
            if plan.below == plan.pruned_below:
                raise Rejected("nothing_to_prune", f"every entry from {plan.below} on is young, or still needed")
            if not plan.is_cosigned:
                raise Rejected("snapshot_not_cosigned", f"no cosigned checkpoint covers the snapshot, entry {seq}")
            snapshot = await self._archive.read(lambda connection: snapshot_at(connection, seq))
            try:
                await asyncio.to_thread(require_whole, self._folder, snapshot, self._projections)
            except Corrupt as damage:  # of no use, and of no harm yet: the log does not hang on it
                raise Rejected(damage.code, f"{damage.detail}; take another snapshot") from damage
            for below in _steps(plan.pruned_below, plan.below):
                await self._append(PRUNED, PrunedBody(below=below, snapshot=seq).encode())
            await self._tidy()
            return plan

    async def _wanted(self, size: int, kept_ms: int) -> int:
        """How many of the first entries are old, not needed by anybody, and not read at a start."""
        if kept_ms < KEPT_MS_MIN:
            days = f"expected to keep {KEPT_MS_MIN // DAY_MS} days or more, saw {kept_ms / DAY_MS:g}"
            raise Rejected("prune_too_young", days)
        try:
            old = (await self._archive.digest_at(self._clock.now_ms() - kept_ms)).head.size
        except Rejected:  # `entry_pruned`: what is left is younger
            return 0
        needed = [await floor() for floor in self._floors]
        return max(0, min(old, size - TAIL_ENTRIES, *(floor for floor in needed if floor is not None)))

    async def _append(self, kind: str, body: bytes) -> int:
        draft = Draft(kind=kind, actor=ACTOR, time_ms=self._clock.now_ms(), body=body)
        (recorded,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        return recorded.seq

    async def _tidy(self) -> None:
        """Files of older snapshots go; a crash before leaves them for the next time."""
        used = await self._archive.read(_snapshots_in_use)
        await asyncio.to_thread(remove_others, self._folder, used)


def _whole_tiles(size: int) -> int:
    return size // TILE_WIDTH * TILE_WIDTH


def _steps(start: int, end: int) -> list[int]:
    return [*range(start + STEP_ENTRIES, end, STEP_ENTRIES), end]


def _newest_snapshot(connection: sqlite3.Connection) -> tuple[int, Snapshot] | None:
    (seq,) = connection.execute("SELECT max(seq) FROM snapshots").fetchone()
    return None if seq is None else (seq, snapshot_at(connection, seq))


def _snapshots_in_use(connection: sqlite3.Connection) -> set[int]:
    """Sizes of the one that a rebuild begins with, and of the newest."""
    rows = connection.execute(
        "SELECT max(seq) FROM snapshots UNION SELECT snapshot FROM pruned WHERE seq = (SELECT max(seq) FROM pruned)"
    ).fetchall()
    return {snapshot_at(connection, seq).size for (seq,) in rows if seq is not None}
