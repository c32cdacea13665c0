"""The follower that publishes: checkpoint, hash tiles and the auditor's entries go to a store of blocks outside.

Owns what a publication covers and when it counts as kept. Must never believe the store: addresses are computed here,
compared as bytes, and every block is read back.

* Decided, durable, then sent. Killed anywhere, the next step makes the same bytes from the log and sends them again;
  a store keeps an address once, however often it is sent. So no entry is skipped and none is published twice.
* A publication is cut at ENTRIES_MAX entries or ENTRIES_BYTES_MAX bytes: a backlog takes time, not memory.
* With nothing new to send, a step looks whether an old publication is still there; what was lost is sent again.

Source: docs/formats/publication.md.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.anchor import cars
from appliance.anchor.cars import PlannedCar
from appliance.anchor.follower import Progress
from appliance.anchor.store import EvidenceStore, StoredCheckpoint
from appliance.crypto.hpke import Recipient
from appliance.evidence.car import Car, write_car
from appliance.evidence.cid import cid_text, is_of
from appliance.evidence.publication import (
    KEY_BYTES,
    RECORD_LENGTH_BYTES,
    Evidence,
    make_publication,
    seal_content_key,
)
from appliance.evidence.publication_root import ENTRIES_MAX, PURPOSE, Scope, Sealing, TileAt
from appliance.ledger.archive import Archive, read_entries
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.publication import tiles_of
from appliance.ledger.tlog import TilePath
from appliance.model.errors import Corrupt, Rejected
from appliance.model.ids import Cid
from appliance.ports.block_store import BlockStore
from appliance.ports.clock import Clock
from appliance.runtime.log import Log

ENTRIES_BYTES_MAX: Final = 4 << 20
"""Of one publication, with lengths; it is in memory about four times while it is sent."""
SALT_BYTES: Final = 32
_ROWS_PER_READ: Final = 64  # at most 4 MiB of entries of the largest size


class Publisher:
    """One step of the follower `publish`."""

    def __init__(
        self,
        *,
        origin: str,
        archive: Archive,
        checkpoints: CheckpointMaker,
        blocks: BlockStore,
        recipient: Recipient,
        secret: bytes,
        store: EvidenceStore,
        clock: Clock,
        log: Log,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`secret`: 32 bytes of this box, the same at each start; content keys are derived from it."""
        self._origin = origin
        self._archive = archive
        self._checkpoints = checkpoints
        self._blocks = blocks
        self._recipient = recipient
        self._secret = secret
        self._store = store
        self._clock = clock
        self._log = log
        self._random_bytes = random_bytes

    async def step(self) -> Progress:
        """Send what is decided, else decide on the next range, else look after an old publication.

        Raises:
            Unavailable: `block_store_away`, or the log or the evidence file is busy.
            Rejected: `block_store_lied`: another root, other bytes, or no pin after all; `block_store_refused`,
                `block_missing`; `publication_differs`: the log no longer gives what was decided on.
        """
        planned = await self._store.read(cars.unkept)
        if planned is None:
            planned = await self._plan()
        if planned is None:
            return await self._look_after()
        await self._send(await self._make_again(planned))
        now_ms = self._clock.now_ms()
        await self._store.write(lambda connection: cars.set_kept(connection, planned, now_ms))
        root = planned.read()
        self._log.info("publication.kept", root=cid_text(planned.cid), first=planned.first, end=root.scope.end)
        return Progress(size=await self._store.read(cars.reached), has_more=root.scope.end < root.size)

    async def _plan(self) -> PlannedCar | None:
        """Decide on the range behind the last one; None when the log has no more entries."""
        last = await self._store.read(cars.newest)
        first = 0 if last is None else last.read().scope.end
        checkpoint = await self._checkpoint_beyond(first)
        if checkpoint is None:
            return None
        entries = await self._entries(first, min(checkpoint.size, first + ENTRIES_MAX))
        scope = Scope(origin=self._origin, first=first, end=first + len(entries))
        salt = self._random_bytes(SALT_BYTES)
        sealing = await asyncio.to_thread(seal_content_key, self._recipient, scope, self._content_key(scope, salt))
        previous = None if last is None else last.cid
        car = await self._make(scope, checkpoint, entries, sealing=sealing, salt=salt, previous=previous)
        planned = PlannedCar(first=first, salt=salt, root=car.blocks[car.root])
        await self._store.write(lambda connection: cars.plan(connection, planned, checkpoint))
        return planned

    async def _checkpoint_beyond(self, size: int) -> StoredCheckpoint | None:
        """A checkpoint of more entries: the newest that others vouch for already, else a fresh one."""
        stored = await self._store.newest_checkpoint()
        if stored is not None and stored.size > size:
            return stored
        head, note = await self._checkpoints.current_head()
        if head.size <= size:
            return None
        return StoredCheckpoint(size=head.size, root=head.root, note=note, made_ms=self._clock.now_ms())

    async def _make_again(self, planned: PlannedCar) -> Car:
        """The blocks of a decided publication, from the log. Raises Rejected `publication_differs`."""
        root = planned.read()
        checkpoint = await self._store.checkpoint(root.size)
        if checkpoint is None:
            raise Corrupt("evidence_damaged", f"evidence.db has a publication but not its checkpoint of {root.size}")
        entries = await self._entries(root.scope.first, root.scope.end)
        if len(entries) != root.scope.end - root.scope.first:
            raise _differs(planned)
        car = await self._make(
            root.scope, checkpoint, entries, sealing=root.sealing, salt=planned.salt, previous=root.previous
        )
        # Equal bytes or nothing: the same key must never encrypt something else.
        if car.root != planned.cid:
            raise _differs(planned)
        return car

    async def _make(
        self,
        scope: Scope,
        checkpoint: StoredCheckpoint,
        entries: list[bytes],
        *,
        sealing: Sealing,
        salt: bytes,
        previous: Cid | None,
    ) -> Car:
        consistency: tuple[bytes, ...] = ()
        if scope.end < checkpoint.size:
            consistency = await self._archive.consistency(scope.end, checkpoint.size)
        tiles = {at: await self._tile(at) for at in tiles_of(scope.first, scope.end)}
        # On a thread: hashing and encrypting 4 MiB takes 15 ms.
        return await asyncio.to_thread(
            make_publication,
            scope,
            evidence=Evidence(checkpoint=checkpoint.note, size=checkpoint.size, consistency=consistency),
            tiles=tiles,
            entries=entries,
            sealing=sealing,
            content_key=self._content_key(scope, salt),
            previous=previous,
        )

    async def _send(self, car: Car) -> None:
        """Have it kept, and believe nothing of it."""
        said = await self._blocks.keep(await asyncio.to_thread(write_car, car))
        if said != car.root:
            raise _lied(f"expected the root {cid_text(car.root)}, the store names {cid_text(said)}")
        for cid, content in car.blocks.items():
            if await self._blocks.block(cid) != content:
                raise _lied(f"the store has other bytes for {cid_text(cid)}")
        if not await self._blocks.is_kept(car.root):
            raise _lied(f"the store does not keep {cid_text(car.root)} after all")

    async def _look_after(self) -> Progress:
        """See whether the publication that was looked at longest ago is still there, block by block."""
        planned = await self._store.read(cars.longest_unchecked)
        if planned is None:
            return Progress(size=0)
        is_there = await self._is_there(planned)
        if is_there:
            now_ms = self._clock.now_ms()
            await self._store.write(lambda connection: cars.set_kept(connection, planned, now_ms))
        else:
            self._log.warning("publication.lost", root=cid_text(planned.cid), first=planned.first)
            await self._store.write(lambda connection: cars.set_lost(connection, planned))
        return Progress(size=await self._store.read(cars.reached), has_more=not is_there)

    async def _is_there(self, planned: PlannedCar) -> bool:
        try:
            for cid in [planned.cid, *planned.read().links()]:
                if not is_of(cid, await self._blocks.block(cid)):
                    return False
        except Rejected as refusal:
            if refusal.code != "block_missing":
                raise
            return False
        return await self._blocks.is_kept(planned.cid)

    async def _entries(self, first: int, end: int) -> list[bytes]:
        """Entries from `first` on, before `end` and at most ENTRIES_BYTES_MAX of them, but one at least."""
        entries: list[bytes] = []
        room_bytes = ENTRIES_BYTES_MAX
        while first + len(entries) < end:
            start = first + len(entries)
            rows = await self._archive.read(partial(read_entries, start=start, end=min(end, start + _ROWS_PER_READ)))
            for entry in rows:
                room_bytes -= len(entry) + RECORD_LENGTH_BYTES
                if room_bytes < 0 and entries:
                    return entries
                entries.append(entry)
        return entries

    async def _tile(self, at: TileAt) -> bytes:
        return await self._archive.tile(TilePath(level=at.level, number=at.number, width=at.width))

    def _content_key(self, scope: Scope, salt: bytes) -> bytes:
        derive = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=scope.info())
        return derive.derive(self._secret)


def secret_from(store_key: bytes) -> bytes:
    """The secret of a box's publisher, from the key over its disclosures: the same at each start, on no disk."""
    derive = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=PURPOSE.encode())
    return derive.derive(store_key)


def _lied(what: str) -> Rejected:
    return Rejected("block_store_lied", what)


def _differs(planned: PlannedCar) -> Rejected:
    return Rejected(
        "publication_differs",
        f"the log no longer gives the publication {cid_text(planned.cid)} from {planned.first} on",
    )
