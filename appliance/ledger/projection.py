"""Projections: tables that are a function of (entries, surviving disclosures).

Owns the protocol and the dispatch by kind. Must never read a clock, a random source or anything outside its
arguments: a rebuild has to give the same tables on another day on another computer.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Protocol

from appliance.ledger.draft import RecordedEntry
from appliance.model.invariants import ensure


class Projection(Protocol):
    """One domain's tables."""

    @property
    def name(self) -> str:
        """Stable; names the projection in the database."""
        ...

    @property
    def schema(self) -> tuple[str, ...]:
        """DDL statements, each CREATE TABLE or CREATE INDEX; a change of them makes the ledger rebuild the tables."""
        ...

    @property
    def tables(self) -> tuple[str, ...]:
        """Every table that `schema` creates, for rebuilding and comparing."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of entries it wants to see; it sees no others."""
        ...

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        """Add `entries` (in order, never empty) to the tables; multi-row statements.

        Runs in the writer's transaction; anything raised rolls the append back. Value and salt of a disclosure that
        was erased are missing in a rebuild: a table that copies them clears the copy when `erased` comes, and keeps
        the log from being pruned: nothing is erased from a snapshot. No projection of the box copies any.
        """
        ...


class Projector:
    """All projections as one: hands each its kinds."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        names = [projection.name for projection in projections]
        ensure(len(set(names)) == len(names), "projections have distinct names")
        self.projections = tuple(projections)
        self._kinds = frozenset[str]().union(*(projection.kinds for projection in projections))

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        """Add `entries` to every projection that wants them."""
        wanted = [entry for entry in entries if entry.kind in self._kinds]
        if not wanted:
            return
        for projection in self.projections:
            mine = [entry for entry in wanted if entry.kind in projection.kinds]
            if mine:
                projection.apply(connection, mine)


def create_tables(connection: sqlite3.Connection, projection: Projection) -> None:
    """Make the projection's tables from nothing, dropping what was there."""
    for table in projection.tables:
        ensure(table.isidentifier(), "a projection's tables are identifiers")
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in projection.schema:
        connection.execute(statement)


def schema_digest(projection: Projection) -> bytes:
    """Tells whether the tables on disk were made by this version of the projection."""
    return hashlib.sha256("\x00".join(projection.schema).encode()).digest()


def tables_digest(connection: sqlite3.Connection, projections: Sequence[Projection]) -> bytes:
    """One hash over every row of every table, in column order: equal digests mean equal tables."""
    digest = hashlib.sha256()
    for projection in projections:
        for table in sorted(projection.tables):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            order = ", ".join(f'"{column}"' for column in columns)
            digest.update(f"{table}({order})".encode())
            for row in connection.execute(f"SELECT {order} FROM {table} ORDER BY {order}"):  # noqa: S608 - our own names
                digest.update(repr(row).encode())
    return digest.digest()
