"""A log, an IPFS node and the follower that publishes the one to the other. Holds no test."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from appliance.adapters.ipfs_http import IpfsHttp
from appliance.anchor.cars import PlannedCar
from appliance.anchor.publish import Publisher
from appliance.anchor.store import EvidenceStore
from appliance.crypto import hpke
from appliance.evidence.car import Car
from appliance.evidence.publication import open_content_key, read_publication
from appliance.evidence.publication_root import read_root
from appliance.ledger.archive import Archive
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.publication import verify_entries, verify_publication
from appliance.ledger.trust import encode_trust, load_trust
from appliance.model.ids import Cid
from appliance.ports.block_store import BlockStore
from appliance.runtime.log import Log
from tests.fakes.clock import FakeClock
from tests.fakes.ipfs_node import FakeIpfsNode
from tests.unit.ledger.shop import genesis, owner
from tests.upstream import WitnessedLog, witnessed_log

_T = TypeVar("_T")

AUDITOR = bytes(range(32))
RECIPIENT = hpke.Recipient(hpke.public_key_of(AUDITOR))
ORIGIN = genesis().read().origin
DEADLINE_MS = 500


class Press:
    """Everything that stays when the process is killed (the log, the files, the node), and parts made anew."""

    def __init__(self, folder: Path, log: WitnessedLog, archive: Archive, node: FakeIpfsNode, clock: FakeClock) -> None:
        self.folder = folder
        self.log = log
        self.archive = archive
        self.node = node
        self.clock = clock
        self.lines: list[str] = []

    def publisher(self, store: EvidenceStore, blocks: BlockStore) -> Publisher:
        """As after a start of the box."""
        return Publisher(
            origin=ORIGIN,
            archive=self.archive,
            checkpoints=self.log.checkpoints,
            blocks=blocks,
            recipient=RECIPIENT,
            secret=b"s" * 32,
            store=store,
            clock=self.clock,
            log=Log(sink=self.lines.append, clock=self.clock),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Publisher]:
        """A publisher on the stored state, through HTTP to the node."""
        store = await EvidenceStore.open(self.folder)
        blocks = await IpfsHttp.open(api_base=self.node.api_base, deadline_ms=DEADLINE_MS)
        try:
            yield self.publisher(store, blocks)
        finally:
            await blocks.close()
            await store.close()

    async def stored(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        store = await EvidenceStore.open(self.folder)
        try:
            return await store.read(query)
        finally:
            await store.close()

    async def roots(self) -> list[Cid]:
        """Addresses that the box remembers, in the order of the log."""
        return await self.stored(lambda connection: [car.cid for car in every(connection)])

    async def audited(self) -> list[bytes]:
        """Every entry, as an auditor reads it from the node: verified against the owner, in order, without a gap."""
        keys = log_keys()
        entries: list[bytes] = []
        previous: Cid | None = None
        for cid in await self.roots():
            publication = read_publication(Car(cid, self.fetched(cid)))
            assert publication.root.scope.first == len(entries)
            assert publication.root.previous == previous
            verify_publication(publication, origin=ORIGIN, keys=keys)
            opened = publication.entries(open_content_key(publication.root, AUDITOR))
            entries += verify_entries(publication, opened)
            previous = cid
        return entries

    def fetched(self, cid: Cid) -> dict[Cid, bytes]:
        """The blocks under a root, as the node has them."""
        root = self.node.blocks[cid]
        return {cid: root} | {link: self.node.blocks[link] for link in read_root(root).links()}

    async def entries(self) -> list[bytes]:
        """The log itself."""
        query = "SELECT entry FROM entries ORDER BY seq"
        return await self.archive.read(lambda connection: [row[0] for row in connection.execute(query)])


def every(connection: sqlite3.Connection) -> list[PlannedCar]:
    """All publications that were decided on."""
    rows = connection.execute("SELECT first, salt, root FROM cars ORDER BY first")
    return [PlannedCar(first=first, salt=salt, root=root) for first, salt, root in rows]


def log_keys() -> LogKeys:
    """What a stranger with the trust file knows of the log."""
    trust = load_trust(encode_trust(owner().public, [genesis()]))
    (keys,) = trust.keys.values()
    return keys


@asynccontextmanager
async def press(folder: Path) -> AsyncIterator[Press]:
    """A new log of two entries, and a node that holds nothing."""
    clock = FakeClock()
    async with FakeIpfsNode() as node, witnessed_log(folder / "ledger", clock) as log:
        archive = await Archive.open(folder / "ledger", lambda: log.ledger.tail)
        try:
            yield Press(folder, log, archive, node, clock)
        finally:
            await archive.close()
