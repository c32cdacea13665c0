"""Guards: the conditions under which an append may happen, checked where nothing can come between.

Owns the protocol and the one guard that is fast in groups. Must never write.

* A guard runs on the writer's thread inside the writer's transaction. It sees the projections of everything
  committed and of every earlier member of its group: two tills spending the same money meet here.
* It raises `Rejected`; then its append writes nothing and the rest of the group goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

_VARIABLES_MAX = 500  # keys per SELECT: far below SQLite's limit, few enough statements to stay prepared


class Guard(Protocol):
    """A condition on the projections."""

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `Rejected` unless the append may happen; read-only, a few indexed look-ups at most."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysUnused:
    """None of `keys` stands in `table.column` yet, and none is claimed by an earlier member of the group.

    The writer looks up the keys of a whole group at once and needs no rows of earlier members for it. The price: an
    append whose projection inserts into `table.column` must claim those keys with this guard. One that forgets meets
    the column's UNIQUE constraint instead, and only it fails.
    """

    table: str
    keys: tuple[bytes | str, ...]
    column: str = "key"
    code: str = "key_used"

    def __post_init__(self) -> None:
        ensure(self.table.isidentifier() and self.column.isidentifier(), "a guard names a table and a column")

    def check(self, connection: sqlite3.Connection) -> None:
        """The slow form, for guards made of guards."""
        self.refuse_any_of(existing_keys(connection, self.table, self.column, self.keys))

    def refuse_any_of(self, used: set[bytes | str]) -> None:
        """Raise `Rejected` for the first key in `used`, and for a key claimed twice at once."""
        for key in self.keys:
            if key in used:
                raise Rejected(self.code, f"expected a new key in {self.table}, saw one that was used before")
        if len(set(self.keys)) != len(self.keys):
            raise Rejected(self.code, f"expected distinct keys for {self.table}, saw one of them twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOf:
    """Every guard of `guards`, in order."""

    guards: tuple[Guard, ...]

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise what the first refusing guard raises."""
        for guard in self.guards:
            guard.check(connection)


def existing_keys(
    connection: sqlite3.Connection, table: str, column: str, keys: Sequence[bytes | str]
) -> set[bytes | str]:
    """Those of `keys` that stand in `table.column`."""
    found: set[bytes | str] = set()
    for start in range(0, len(keys), _VARIABLES_MAX):
        part = keys[start : start + _VARIABLES_MAX]
        marks = ",".join("?" * len(part))
        # Names come from KeysUnused, which checked that they are identifiers; values are bound.
        statement = f"SELECT {column} FROM {table} WHERE {column} IN ({marks})"  # noqa: S608 - see the line above
        found.update(row[0] for row in connection.execute(statement, part))
    return found


class ClaimedKeys:
    """The used keys of one group: read once from the tables, then grown by each accepted member."""

    def __init__(self, connection: sqlite3.Connection, guards: Iterable[KeysUnused]) -> None:
        wanted: dict[tuple[str, str], list[bytes | str]] = {}
        for guard in guards:
            wanted.setdefault((guard.table, guard.column), []).extend(guard.keys)
        self._used = {
            (table, column): existing_keys(connection, table, column, keys) for (table, column), keys in wanted.items()
        }

    def check(self, guard: KeysUnused) -> None:
        """Raise `Rejected` if a key of `guard` is used or claimed."""
        guard.refuse_any_of(self._used[guard.table, guard.column])

    def claim(self, guard: KeysUnused) -> None:
        """The member of `guard` was accepted: later members see its keys as used."""
        self._used[guard.table, guard.column].update(guard.keys)
