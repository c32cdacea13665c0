"""The calendar's file: commitments in the order they came, the batches they went into, own anchors.

Owns one SQLite file, one thread, one connection. A commitment is on the disk before its promise leaves: those that come
at the same time share one fsync.

* A batch is a range of commitment numbers: what is not in one waits. Nothing is ever deleted, because the promise holds
  for as long as somebody has its proof.
* The tree of a batch is stored with it, in the transaction that makes its anchor durable.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appliance.anchor.anchors import TABLES as ANCHOR_TABLES
from appliance.evidence.ots import Step
from appliance.model.errors import Unavailable
from provisioning.upstream.calendar_tree import build_tree, tree_root, tree_steps

SCHEMA_VERSION: Final = 1
WAITING_MAX: Final = 1_000_000  # two hours of 100,000 boxes that come every fifteen minutes
BATCH_MAX: Final = 1_000_000
SALT_BYTES: Final = 8

_TABLES: Final = (
    "CREATE TABLE commitments (number INTEGER PRIMARY KEY, commitment BLOB NOT NULL UNIQUE)",
    # Commitments `first` to `first + count - 1`; `tree` as in calendar_tree.
    "CREATE TABLE batches (anchor INTEGER PRIMARY KEY REFERENCES anchors, first INTEGER NOT NULL UNIQUE,"
    " count INTEGER NOT NULL, tree BLOB NOT NULL)",
    "CREATE TABLE calendar (only INTEGER PRIMARY KEY CHECK (only = 0), secret BLOB NOT NULL)",
    *ANCHOR_TABLES,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Commitments that wait, under one root."""

    first: int
    count: int
    tree: bytes

    @property
    def root(self) -> bytes:
        return tree_root(self.tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a commitment lies: the anchor of its batch, None while it waits, and the steps to the batch's root."""

    anchor: int | None
    steps: list[Step]


class CalendarStore:
    """The open file; made by `open`."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, secret: bytes, waiting: int) -> None:
        self._connection = connection
        self._thread = thread
        self._secret = secret
        self._waiting = waiting
        self._arrived: list[tuple[bytes, asyncio.Future[None]]] = []
        self._committing = asyncio.Lock()

    @classmethod
    async def open(cls, file: Path) -> CalendarStore:
        """Open the file, or make it. Raises OSError or sqlite3.Error: it cannot be used."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="calendar")
        run = asyncio.get_running_loop().run_in_executor
        try:
            connection, secret = await run(thread, _open, file)
            waiting = await run(thread, lambda: _waiting_count(connection))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread, secret, waiting)

    def salt(self, digest: bytes) -> bytes:
        """What is appended to a digest: the same digest gives the same commitment, and nobody else can compute it."""
        return hmac.digest(self._secret, digest, "sha256")[:SALT_BYTES]

    @property
    def waiting(self) -> int:
        """Commitments in no batch; a commitment that came twice may count twice until the next batch."""
        return self._waiting

    async def add(self, commitment: bytes) -> None:
        """Keep a commitment; on return it is on the disk.

        Raises:
            Unavailable: `calendar_full`, or `calendar_disk_failed`: nothing was promised.
        """
        if self._waiting + len(self._arrived) >= WAITING_MAX:
            raise Unavailable("calendar_full", f"{WAITING_MAX} commitments wait for a block")
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrived.append((commitment, kept))
        async with self._committing:
            if not kept.done():
                await self._commit_arrived()
        await kept

    async def batch(self) -> Batch | None:
        """Everything that waits, as one tree; None when nothing does."""
        batch = await self.read(_batch)
        self._waiting = 0 if batch is None else batch.count
        return batch

    async def place(self, commitment: bytes) -> Place | None:
        """Where `commitment` lies; None if it was never handed in."""
        return await self.read(lambda connection: _place(connection, commitment))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on the file's thread."""
        return await self._run(query)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run `change` as one transaction; on return it is on the disk, after an error nothing of it is."""
        return await self._run(lambda connection: _transact(connection, change))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def _commit_arrived(self) -> None:
        """One transaction for everything that came while the one before ran."""
        group, self._arrived = self._arrived, []
        failure: Unavailable | None = Unavailable("calendar_disk_failed", "the commitment was not kept")
        try:
            self._waiting += await self.write(lambda connection: _add(connection, [each for each, _ in group]))
            failure = None
        except sqlite3.Error as cause:
            raise Unavailable("calendar_disk_failed", f"the commitment was not kept: {cause}") from cause
        finally:
            for _, kept in group:
                if kept.done():
                    continue  # who hung up
                if failure is None:
                    kept.set_result(None)
                else:
                    kept.set_exception(failure)
                    kept.exception()  # seen: nobody may be left to ask

    async def _run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, self._connection)


def claim(connection: sqlite3.Connection, anchor: int, batch: Batch) -> None:
    """Inside a `write`: the batch goes with this anchor."""
    connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (anchor, batch.first, batch.count, batch.tree))


def _open(file: Path) -> tuple[sqlite3.Connection, bytes]:
    connection = sqlite3.connect(file, isolation_level=None)
    file.chmod(0o600)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a promise that a power cut takes back is none
    connection.execute("PRAGMA foreign_keys = ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        _transact(connection, _make)
    elif version != SCHEMA_VERSION:
        connection.close()
        raise sqlite3.DatabaseError(f"expected schema {SCHEMA_VERSION}, saw {version}")
    (secret,) = connection.execute("SELECT secret FROM calendar").fetchone()
    return connection, secret


def _make(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO calendar VALUES (0, ?)", (os.urandom(32),))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _transact(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = change(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return result


def _add(connection: sqlite3.Connection, commitments: list[bytes]) -> int:
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO commitments (commitment) VALUES (?) ON CONFLICT DO NOTHING", [(each,) for each in commitments]
    )
    return connection.total_changes - before


def _next_number(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("SELECT coalesce(max(first + count), 1) FROM batches").fetchone()
    return int(number)


def _waiting_count(connection: sqlite3.Connection) -> int:
    query = "SELECT count(*) FROM commitments WHERE number >= ?"
    (count,) = connection.execute(query, (_next_number(connection),)).fetchone()
    return int(count)


def _batch(connection: sqlite3.Connection) -> Batch | None:
    query = "SELECT number, commitment FROM commitments WHERE number >= ? ORDER BY number LIMIT ?"
    rows = connection.execute(query, (_next_number(connection), BATCH_MAX)).fetchall()
    if not rows:
        return None
    # Numbers follow each other without gaps: rows are only ever added, by one connection.
    return Batch(first=rows[0][0], count=len(rows), tree=build_tree([commitment for _, commitment in rows]))


def _place(connection: sqlite3.Connection, commitment: bytes) -> Place | None:
    row = connection.execute("SELECT number FROM commitments WHERE commitment = ?", (commitment,)).fetchone()
    if row is None:
        return None
    number = row[0]
    query = "SELECT anchor, first, count FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
    batch = connection.execute(query, (number,)).fetchone()
    if batch is None or number >= batch[1] + batch[2]:
        return Place(anchor=None, steps=[])
    with connection.blobopen("batches", "tree", batch[0], readonly=True) as tree:

        def read(offset: int, size: int) -> bytes:
            tree.seek(offset)
            return tree.read(size)

        steps = tree_steps(read, batch[2], number - batch[1])
    return Place(anchor=batch[0], steps=steps)
