"""The table of publications: what was or is to be kept outside, and all that it takes to make it again.

Owns the rows and nothing else. A row is written before anything is sent, so that a process killed anywhere sends the
same bytes again, never others; the bytes themselves are not kept, they are made of the log.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.anchor.store import StoredCheckpoint, set_cursor
from appliance.evidence.cid import dag_cbor_cid
from appliance.evidence.publication_root import Root, read_root
from appliance.model.ids import Cid

NAME: Final = "publish"
_COLUMNS: Final = "first, salt, root"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCar:
    """A publication that is to be the same for ever.

    Attributes:
        salt: what its content key is derived with, beside the box's own secret.
        root: the root block as it was first made.
    """

    first: int
    salt: bytes
    root: bytes

    @property
    def cid(self) -> Cid:
        """Address of the root block."""
        return dag_cbor_cid(self.root)

    def read(self) -> Root:
        """What the root block says."""
        return read_root(self.root)


def newest(connection: sqlite3.Connection) -> PlannedCar | None:
    """The publication that reaches furthest."""
    return _one(connection, "ORDER BY first DESC LIMIT 1")


def unkept(connection: sqlite3.Connection) -> PlannedCar | None:
    """The first publication that is not known to be kept."""
    return _one(connection, "WHERE kept_ms IS NULL ORDER BY first LIMIT 1")


def longest_unchecked(connection: sqlite3.Connection) -> PlannedCar | None:
    """Of those that are kept, the one that was looked at longest ago."""
    return _one(connection, "WHERE kept_ms IS NOT NULL ORDER BY checked_ms, first LIMIT 1")


def plan(connection: sqlite3.Connection, car: PlannedCar, checkpoint: StoredCheckpoint) -> None:
    """Decide on a publication, for ever; its checkpoint is stored with it."""
    root = car.read()
    connection.execute(
        "INSERT INTO checkpoints VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (checkpoint.size, checkpoint.root, checkpoint.note, checkpoint.made_ms),
    )
    connection.execute(
        "INSERT INTO cars (first, end, size, salt, root) VALUES (?, ?, ?, ?, ?)",
        (car.first, root.scope.end, root.size, car.salt, car.root),
    )


def set_kept(connection: sqlite3.Connection, car: PlannedCar, now_ms: int) -> None:
    """It was seen outside, whole and pinned; the cursor moves behind the last one before the first that is not."""
    connection.execute(
        "UPDATE cars SET kept_ms = coalesce(kept_ms, ?1), checked_ms = ?1 WHERE first = ?2", (now_ms, car.first)
    )
    set_cursor(connection, NAME, reached(connection))


def set_lost(connection: sqlite3.Connection, car: PlannedCar) -> None:
    """It is outside no more: it is sent again, the same bytes."""
    connection.execute("UPDATE cars SET kept_ms = NULL WHERE first = ?", (car.first,))


def reached(connection: sqlite3.Connection) -> int:
    """How many entries from the beginning are kept without a gap."""
    (end,) = connection.execute(
        "SELECT coalesce((SELECT min(first) FROM cars WHERE kept_ms IS NULL), (SELECT max(end) FROM cars), 0)"
    ).fetchone()
    return int(end)


def published_root(connection: sqlite3.Connection, size: int) -> bytes | None:
    """Root block of the kept publication that ends at the checkpoint of `size` entries: for an evidence bundle."""
    row = connection.execute(
        "SELECT root FROM cars WHERE size = ?1 AND end = ?1 AND kept_ms IS NOT NULL", (size,)
    ).fetchone()
    return None if row is None else row[0]


def _one(connection: sqlite3.Connection, which: str) -> PlannedCar | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM cars {which}").fetchone()  # noqa: S608 - constants of this module
    return None if row is None else PlannedCar(first=row[0], salt=row[1], root=row[2])
