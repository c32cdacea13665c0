"""Snapshots: the tables of all projections as of one size, in a file beside the log; the log holds their digests.

Owns the `snapshot` entry and its file. Must never be believed without the entry: whatever is read from the file is
hashed again and compared.

* The file is taken in one read transaction, durable before the entry that names it. A crash leaves a file that no entry
  names; `remove_others` takes it away.
* A file holds what projections hold. They must hold no value of a disclosure: nothing is erased from a snapshot.

Source: docs/formats/pruning.md.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.crypto import cbor
from appliance.ledger.database import connect_reader
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.ledger.projection import Projection, schema_digest, tables_digest
from appliance.ledger.pruned import PRUNED, SNAPSHOT, read_pruned
from appliance.ledger.recover import fsync_folder
from appliance.model.errors import Corrupt

_ROWS_AT_ONCE: Final = 1_000
_PREFIX: Final = "snapshot-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state after the first `size` entries; `digests`: of the schema and the tables of each projection, by name."""

    size: int
    digests: Mapping[str, tuple[bytes, bytes]]

    def encode(self) -> bytes:
        """The body of its entry."""
        return cbor.encode({"size": self.size, "tables": {name: list(pair) for name, pair in self.digests.items()}})


def read_snapshot(body: bytes) -> Snapshot:
    """Read the body of a `snapshot` entry. Raises Corrupt `snapshot_malformed`."""
    match cbor.decode(body, size_max=ENTRY_BYTES_MAX):
        case {"size": int(size), "tables": {} as tables, **rest} if not rest and size > 0:
            digests = {str(name): _pair(pair) for name, pair in tables.items()}
            return Snapshot(size=size, digests=digests)
        case _:
            raise Corrupt("snapshot_malformed", "expected a `snapshot` body of size and digests")


def take_snapshot(folder: Path, projections: Sequence[Projection]) -> Snapshot:
    """Write the file of the state now; blocking, a read transaction as long as the copying takes.

    Raises:
        OSError, sqlite3.Error: no file was made that counts.
    """
    partial = folder / f"{_PREFIX}partial.db"
    partial.unlink(missing_ok=True)
    with closing(connect_reader(folder)) as ledger, closing(sqlite3.connect(partial, isolation_level=None)) as side:
        # Thrown away unless whole: no journal, and one fsync at the end.
        side.execute("PRAGMA journal_mode = OFF")
        side.execute("PRAGMA synchronous = OFF")
        ledger.execute("BEGIN")
        (size,) = ledger.execute("SELECT size FROM head").fetchone()
        side.execute("BEGIN")
        for table in _tables(projections):
            _copy_out(ledger, side, table)
        side.execute("COMMIT")
        ledger.execute("ROLLBACK")
        digests = _digests(side, projections)
    with partial.open("rb+") as written:
        os.fsync(written.fileno())
    partial.rename(snapshot_file(folder, size))
    fsync_folder(folder)
    return Snapshot(size=size, digests=digests)


def require_whole(folder: Path, snapshot: Snapshot, projections: Sequence[Projection]) -> None:
    """Read the file again: everything about the log behind it hangs on these bytes.

    Raises:
        Corrupt: `snapshot_missing`, `snapshot_damaged`.
    """
    with _open(folder, snapshot.size) as side:
        try:
            found = _digests(side, projections)
        except sqlite3.DatabaseError as damage:
            raise Corrupt("snapshot_damaged", f"SQLite cannot read the file of {snapshot.size}: {damage}") from damage
    if found != snapshot.digests:
        raise Corrupt("snapshot_damaged", f"the file of {snapshot.size} entries is not what its entry says")


def load_snapshot(connection: sqlite3.Connection, snapshot: Snapshot, projection: Projection) -> None:
    """Fill the projection's empty tables, inside the caller's transaction.

    Raises:
        Corrupt: `snapshot_missing`, `snapshot_damaged`; `snapshot_outdated`: this release makes other tables, and what
            they would be made from is gone.
    """
    schema, tables = snapshot.digests.get(projection.name, (b"", b""))
    if schema != schema_digest(projection):
        raise Corrupt(
            "snapshot_outdated",
            f"tables of {projection.name} need entries that were pruned; the release before this one has them",
        )
    with _open(_folder_of(connection), snapshot.size) as side:
        for table in projection.tables:
            _copy_in(side, connection, table)
    if tables_digest(connection, (projection,)) != tables:
        raise Corrupt("snapshot_damaged", f"tables of {projection.name} are not what the snapshot's entry says")


def base_of(connection: sqlite3.Connection) -> Snapshot | None:
    """The snapshot that a rebuild begins with; None where every entry is still there.

    Read from the entries, not from a table: tables are what is being rebuilt.
    """
    if connection.execute("SELECT 1 FROM entries WHERE seq = 1").fetchone() is not None:
        return None  # entry 1 is the first to go
    row = connection.execute("SELECT entry FROM entries WHERE kind = ? ORDER BY seq DESC LIMIT 1", (PRUNED,)).fetchone()
    if row is None:
        return None
    return snapshot_at(connection, read_pruned(decode(row[0]).body).snapshot)


def snapshot_at(connection: sqlite3.Connection, seq: int) -> Snapshot:
    """What the `snapshot` entry `seq` says. Raises Corrupt `entry_missing`, `snapshot_malformed`."""
    row = connection.execute("SELECT entry FROM entries WHERE seq = ? AND kind = ?", (seq, SNAPSHOT)).fetchone()
    if row is None:
        raise Corrupt("entry_missing", f"expected a snapshot as entry {seq}")
    return read_snapshot(decode(row[0]).body)


def remove_others(folder: Path, sizes: Collection[int]) -> None:
    """Remove every snapshot file but those of `sizes`."""
    kept = {snapshot_file(folder, size) for size in sizes}
    for file in folder.glob(f"{_PREFIX}*.db"):
        if file not in kept:
            file.unlink()


def snapshot_file(folder: Path, size: int) -> Path:
    """Where the snapshot of the first `size` entries lies."""
    return folder / f"{_PREFIX}{size}.db"


def _open(folder: Path, size: int) -> closing[sqlite3.Connection]:
    file = snapshot_file(folder, size)
    if not file.is_file():
        raise Corrupt("snapshot_missing", f"expected {file.name} beside the log")
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None))


def _folder_of(connection: sqlite3.Connection) -> Path:
    (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
    return Path(file).parent


def _digests(side: sqlite3.Connection, projections: Sequence[Projection]) -> dict[str, tuple[bytes, bytes]]:
    return {each.name: (schema_digest(each), tables_digest(side, (each,))) for each in projections}


def _tables(projections: Sequence[Projection]) -> Iterator[str]:
    for projection in projections:
        yield from projection.tables


def _copy_out(ledger: sqlite3.Connection, side: sqlite3.Connection, table: str) -> None:
    columns = ", ".join(f'"{row[1]}"' for row in ledger.execute(f"PRAGMA table_info({table})"))
    # Columns without a type: every value stays what it is.
    side.execute(f"CREATE TABLE {table} ({columns})")
    _copy_in(ledger, side, table)


def _copy_in(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    names = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    columns, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
    rows = source.execute(f"SELECT {columns} FROM {table}")  # noqa: S608 - a projection's own names
    while page := rows.fetchmany(_ROWS_AT_ONCE):
        target.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", page)  # noqa: S608 - a projection's own names


def _pair(value: object) -> tuple[bytes, bytes]:
    match value:
        case [bytes(schema), bytes(tables)]:
            return schema, tables
        case _:
            raise Corrupt("snapshot_malformed", "expected two digests for each projection")
