"""Tables against the log: replays the entries beside the database and names the first row that they do not give.

Owns the comparison. Must never repair: a wrong table is thrown away and rebuilt by whoever decides so. For a stopped
box or a copy: it copies the file, and costs what a rebuild costs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import zip_longest

from appliance.ledger.projection import Projection, schema_digest
from appliance.ledger.rebuild import rebuild
from appliance.model.errors import Corrupt


def check_tables(stored: sqlite3.Connection, projections: Sequence[Projection]) -> int:
    """Compare every row of every table of `projections` with a replay; returns how many rows are right.

    Args:
        projections: none that copies disclosed values into its tables: those cannot be opened here.
    Raises:
        Corrupt: `table_mismatch`, with table and row.
    """
    # Temporary databases, on disk when they are large; both from one moment of the file.
    with (
        closing(sqlite3.connect("", isolation_level=None)) as before,
        closing(sqlite3.connect("", isolation_level=None)) as replayed,
    ):
        stored.backup(before)
        before.backup(replayed)
        rebuild(replayed, projections, None)
        known = dict(before.execute("SELECT name, schema_digest FROM projections"))
        for projection in projections:
            if known.get(projection.name) != schema_digest(projection):
                raise Corrupt("table_mismatch", f"table projections, row {projection.name}: another release's tables")
        for connection in (before, replayed):
            connection.text_factory = bytes  # a changed text may be none any more
        tables = [table for projection in projections for table in projection.tables]
        return sum(_compare(before, replayed, table) for table in tables)


def _compare(before: sqlite3.Connection, replayed: sqlite3.Connection, table: str) -> int:
    count = 0
    for seen, expected in zip_longest(_rows(before, table), _rows(replayed, table)):
        if seen != expected:
            place = seen if expected is None else expected
            raise Corrupt("table_mismatch", f"table {table}, row {count} ({place[0]!r:.80}): not what the entries say")
        count += 1
    return count


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Every row, ordered by the primary key where there is one, its first column first."""
    columns = list(connection.execute(f"PRAGMA table_info({table})"))
    keys = sorted((row[5], row[1].decode()) for row in columns if row[5])
    order = ", ".join(f'"{name}"' for _, name in keys) or ", ".join(f'"{row[1].decode()}"' for row in columns)
    yield from connection.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - names of our own schema
