"""What a witness remembers, in PostgreSQL: the largest consistent head of each log, and proofs that somebody tried two.

Owns the tables and the one transaction that moves a head. A head never moves back, and nobody is told of a new one
before its COMMIT is on the disk.

* The row of a log is locked from the comparison to the commit: two requests cannot both extend the same head
  (https://c2sp.org/tlog-witness describes the race).
* A server that does not wait for its disk is refused at the start: it would forget what boxes were told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

import asyncpg

from appliance.model.errors import Unavailable

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS witness_heads (
    origin text PRIMARY KEY,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note bytea NOT NULL,
    cosigned_at timestamptz NOT NULL DEFAULT now()
);
-- A log that signs two histories has been caught: its own signature is the proof.
CREATE TABLE IF NOT EXISTS witness_conflicts (
    origin text NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note bytea NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (origin, size, root)
);
"""
CONFLICTS_MAX: Final = 100
"""Per log. The first ones tell; a box that keeps trying must not fill the disk."""
_COMMAND_S: Final = 10.0
# asyncpg calls it an internal error when a query meets a connection that is just being lost.
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessedHead:
    """The largest head of a log that this witness cosigned; size 0 before the first."""

    size: int
    root: bytes


class WitnessStore:
    """A pool of connections to the one database of a witness."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str) -> Self:
        """Connect, make the tables, and insist on durability.

        Raises:
            Unavailable: `postgres_away`, `postgres_not_durable`.
        """
        try:
            pool = await asyncpg.create_pool(
                dsn, min_size=1, max_size=8, command_timeout=_COMMAND_S, server_settings={"synchronous_commit": "on"}
            )
            is_durable = await pool.fetchval("SHOW fsync") == "on"
            if is_durable:
                await pool.execute(_SCHEMA)
        except (OSError, asyncpg.PostgresError) as cause:
            raise Unavailable("postgres_away", f"PostgreSQL cannot be used: {cause}") from cause
        if not is_durable:
            await pool.close()
            raise Unavailable("postgres_not_durable", "expected fsync = on: a witness must not forget")
        return cls(pool)

    async def close(self) -> None:
        """Let the running transactions end."""
        await self._pool.close()

    async def note(self, origin: str) -> bytes:
        """The newest head of a log as it was cosigned, with all its lines; empty before the first.

        Raises:
            Unavailable: `postgres_away`.
        """
        try:
            found = await self._pool.fetchval("SELECT note FROM witness_heads WHERE origin = $1 AND size > 0", origin)
        except _AWAY as cause:
            raise Unavailable("postgres_away", f"PostgreSQL cannot be used: {type(cause).__name__}") from cause
        return bytes(found or b"")

    @asynccontextmanager
    async def locked(self, origin: str) -> AsyncIterator[LockedHead]:
        """The newest head of a log, locked until the block ends; what the block stored is then committed.

        Raises:
            Unavailable: `postgres_away`: whether it is committed is not known; the same question finds out.
        """
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    "INSERT INTO witness_heads (origin, size, root, note) VALUES ($1, 0, '', '')"
                    " ON CONFLICT DO NOTHING",
                    origin,
                )
                row = await connection.fetchrow(
                    "SELECT size, root FROM witness_heads WHERE origin = $1 FOR UPDATE", origin
                )
                yield LockedHead(connection, origin, WitnessedHead(size=row["size"], root=row["root"]))
        except _AWAY as cause:
            raise Unavailable("postgres_away", f"PostgreSQL cannot be used: {type(cause).__name__}") from cause


class LockedHead:
    """A head between its comparison and the commit."""

    def __init__(self, connection: asyncpg.Connection, origin: str, head: WitnessedHead) -> None:
        self._connection = connection
        self._origin = origin
        self.head = head

    async def advance(self, size: int, root: bytes, note: bytes) -> None:
        """This is the newest head, once the block ends; `note` with the log's and the witness's lines."""
        await self._connection.execute(
            "UPDATE witness_heads SET size = $2, root = $3, note = $4, cosigned_at = now() WHERE origin = $1",
            self._origin,
            size,
            root,
            note,
        )

    async def keep_conflict(self, size: int, root: bytes, note: bytes) -> None:
        """Remember a head that the log signed and that contradicts the newest one."""
        await self._connection.execute(
            "INSERT INTO witness_conflicts (origin, size, root, note) SELECT $1, $2, $3, $4"
            " WHERE (SELECT count(*) FROM witness_conflicts WHERE origin = $1) < $5 ON CONFLICT DO NOTHING",
            self._origin,
            size,
            root,
            note,
            CONFLICTS_MAX,
        )
