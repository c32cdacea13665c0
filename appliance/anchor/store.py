"""evidence.db: what followers have gathered about heads of the log, and where each of them stands.

Owns the file, its tables, the one thread and the one connection that touch it. Must never be awaited by a payment, and
nothing in it ever enters hashed bytes: it is mutable, and a lost file costs evidence, not the log.

* `write` is one transaction: on return it is fsynced, after an error nothing of it is there.
* A commit that fails for another reason than a full disk is Corrupt: the process ends and starts again by recovery.
* Evidence belongs to a checkpoint that was stored first, so that what was asked for is known after a crash.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appliance.anchor.anchors import TABLES as ANCHOR_TABLES
from appliance.ledger.recover import rewrite_wal
from appliance.model.errors import Corrupt, Unavailable

SCHEMA_VERSION: Final = 1
CALLS_WAITING_MAX: Final = 256

_SCHEMA: Final = (
    # A head that followers work on: `note` is the C2SP checkpoint with the log's own signatures.
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, root BLOB NOT NULL, note BLOB NOT NULL,"
    " made_ms INTEGER NOT NULL)",
    # `lines`: every verified signature line of that witness, each with its newline.
    "CREATE TABLE cosignatures (size INTEGER NOT NULL REFERENCES checkpoints, witness TEXT NOT NULL,"
    " lines BLOB NOT NULL, received_ms INTEGER NOT NULL, PRIMARY KEY (size, witness)) WITHOUT ROWID",
    # `way`: calendar address or `own`; `state`: the owner's word; `proof`: .ots bytes; `detail`: what the owner needs.
    "CREATE TABLE timestamps (size INTEGER NOT NULL REFERENCES checkpoints, way TEXT NOT NULL, state TEXT NOT NULL,"
    " proof BLOB, detail BLOB, updated_ms INTEGER NOT NULL, PRIMARY KEY (size, way)) WITHOUT ROWID",
    # `root`: the root block of a publication of entries first <= seq < end under the checkpoint of `size`; `kept_ms`:
    # NULL until all of it was read back; `checked_ms`: when that was done last.
    "CREATE TABLE cars (first INTEGER PRIMARY KEY, end INTEGER NOT NULL UNIQUE, size INTEGER NOT NULL"
    " REFERENCES checkpoints, salt BLOB NOT NULL, root BLOB NOT NULL, kept_ms INTEGER, checked_ms INTEGER)",
    # `size`: entries that the follower has dealt with; `success_ms`: wall time of its last step that worked.
    "CREATE TABLE cursors (follower TEXT PRIMARY KEY, size INTEGER NOT NULL, success_ms INTEGER NOT NULL)",
    *ANCHOR_TABLES,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A head picked for evidence; `note` is its signed note without cosignatures."""

    size: int
    root: bytes
    note: bytes
    made_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a follower stands: entries dealt with, and when a step of it last worked (0: never)."""

    size: int = 0
    success_ms: int = 0


class EvidenceStore:
    """The open file; made by `open`."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._waiting = 0

    @classmethod
    async def open(cls, folder: Path) -> EvidenceStore:
        """Open `evidence.db` in `folder`, or make it; a damaged one is moved to `damaged-evidence.db`.

        Raises:
            Corrupt: `evidence_newer`: made by a newer release.
            Unavailable: `disk_full`.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evidence")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _open, folder / "evidence.db")
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread)

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `query` on the store's thread; it must not keep the connection. Raises as `write`."""
        return await self._run(query, "BEGIN")

    async def write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `change` as one transaction; on return it is on the disk, after an error nothing of it is.

        A caller that is cancelled gives up the wait: the change may be made all the same.

        Raises:
            Unavailable: `disk_full`, `evidence_busy`.
            Corrupt: `evidence_commit_failed`, `evidence_damaged`.
        """
        return await self._run(change, "BEGIN IMMEDIATE")

    async def checkpoint(self, size: int) -> StoredCheckpoint | None:
        """The stored checkpoint of exactly `size` entries."""
        return await self.read(lambda connection: _checkpoint(connection, "size = ?", size))

    async def newest_checkpoint(self) -> StoredCheckpoint | None:
        """The stored checkpoint with the most entries."""
        return await self.read(lambda connection: _checkpoint(connection, "size >= ? ORDER BY size DESC LIMIT 1", 0))

    async def add_checkpoint(self, checkpoint: StoredCheckpoint) -> StoredCheckpoint:
        """Pick a head for evidence and return what is stored: the first note of a size stays.

        Raises:
            Corrupt: `evidence_root_differs`: another root of the same size is stored; one log has one.
        """
        return await self.write(lambda connection: _add_checkpoint(connection, checkpoint))

    async def cursor(self, follower: str) -> Cursor:
        """Where `follower` stands."""
        query = "SELECT size, success_ms FROM cursors WHERE follower = ?"
        row = await self.read(lambda connection: connection.execute(query, (follower,)).fetchone())
        return Cursor() if row is None else Cursor(size=row[0], success_ms=row[1])

    async def close(self) -> None:
        """Let the running call end, then close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[sqlite3.Connection], _T], begin: str) -> _T:
        if self._waiting >= CALLS_WAITING_MAX:
            raise Unavailable("evidence_busy", f"expected at most {CALLS_WAITING_MAX} calls waiting")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, _transact, self._connection, call, begin)
        finally:
            self._waiting -= 1


def set_cursor(connection: sqlite3.Connection, follower: str, size: int) -> None:
    """Inside a `write`: `follower` has dealt with the first `size` entries. A cursor never moves back."""
    connection.execute(
        "INSERT INTO cursors VALUES (?, ?, 0) ON CONFLICT (follower) DO UPDATE SET size = max(size, excluded.size)",
        (follower, size),
    )


def set_success(connection: sqlite3.Connection, follower: str, success_ms: int) -> None:
    """Inside a `write`: a step of `follower` worked at this wall time."""
    connection.execute(
        "INSERT INTO cursors VALUES (?, 0, ?) ON CONFLICT (follower) DO UPDATE SET success_ms = excluded.success_ms",
        (follower, success_ms),
    )


def _checkpoint(connection: sqlite3.Connection, where: str, size: int) -> StoredCheckpoint | None:
    row = connection.execute(f"SELECT size, root, note, made_ms FROM checkpoints WHERE {where}", (size,)).fetchone()  # noqa: S608 - `where` is one of two constants of this module
    return None if row is None else StoredCheckpoint(size=row[0], root=row[1], note=row[2], made_ms=row[3])


def _add_checkpoint(connection: sqlite3.Connection, checkpoint: StoredCheckpoint) -> StoredCheckpoint:
    connection.execute(
        "INSERT INTO checkpoints VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (checkpoint.size, checkpoint.root, checkpoint.note, checkpoint.made_ms),
    )
    stored = _checkpoint(connection, "size = ?", checkpoint.size)
    if stored is None or stored.root != checkpoint.root:
        raise Corrupt("evidence_root_differs", f"expected the stored root of size {checkpoint.size}, saw another")
    return stored


def _open(file: Path) -> sqlite3.Connection:
    rewrite_wal(file.with_name(file.name + "-wal"))
    try:
        return _connect(file)
    except Corrupt as damage:
        if damage.code != "evidence_damaged":
            raise
        # Sales must not wait for a file that holds no sale. What was gathered stays beside it for a person to look at.
        for part in ("-wal", ""):
            damaged = file.with_name(file.name + part)
            if damaged.exists():
                damaged.replace(file.with_name(f"damaged-{file.name}{part}"))
        return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL fsyncs the WAL in each commit: NORMAL would forget a transaction that was paid for.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Corrupt("evidence_damaged", f"evidence.db: {found}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise Corrupt("evidence_newer", f"expected schema {SCHEMA_VERSION} or older, saw {version}")
        if version == 0:
            _transact(connection, _make_tables, "BEGIN IMMEDIATE")
    except sqlite3.DatabaseError as cause:
        connection.close()
        raise _translated(cause) from cause
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _transact(connection: sqlite3.Connection, call: Callable[[sqlite3.Connection], _T], begin: str) -> _T:
    connection.execute(begin)
    try:
        result = call(connection)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as cause:
        if isinstance(cause, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise  # a mistake of the caller, nothing wrong with the file
        raise _translated(cause) from cause
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return result


def _translated(cause: sqlite3.DatabaseError) -> Corrupt | Unavailable:
    primary = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return Unavailable("disk_full", "the disk is full; evidence waits")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt("evidence_damaged", f"evidence.db: {cause}")
    return Corrupt("evidence_commit_failed", f"evidence.db: {cause}")
