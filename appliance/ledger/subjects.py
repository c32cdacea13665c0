"""Subjects: which entries hold values about a person, and which entry erased them.

Owns the queries over `disclosures` and `erased_keys`. Must never hold a person's name: a person is a set of key numbers
here, or an alias (`subject_keys.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from appliance.ledger.entry import Entry, decode

SealedValue: TypeAlias = tuple[str, int, bytes]
"""Name, key number, ciphertext: what the vault opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """How much is held under some keys: entries, and the oldest and newest of them (None when there is none)."""

    entries: int
    first: Entry | None
    last: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEntry:
    """An entry and the values about the person that lie beside it."""

    entry: Entry
    values: tuple[SealedValue, ...]


def holding(connection: sqlite3.Connection, key_ids: Sequence[int]) -> Holding:
    """How much is held under `key_ids`."""
    count, first, last = connection.execute(
        "SELECT count(DISTINCT seq), min(seq), max(seq) FROM disclosures"
        " WHERE key_id IN (SELECT value FROM json_each(?))",
        (json.dumps(key_ids),),
    ).fetchone()
    if not count:
        return Holding(entries=0, first=None, last=None)
    return Holding(entries=count, first=_entry(connection, first), last=_entry(connection, last))


def held_entries(connection: sqlite3.Connection, key_id: int, *, after: int, limit: int) -> tuple[HeldEntry, ...]:
    """The next `limit` entries behind `after` that have values under `key_id`."""
    seqs = connection.execute(
        "SELECT DISTINCT seq FROM disclosures WHERE key_id = ? AND seq > ? ORDER BY seq LIMIT ?", (key_id, after, limit)
    ).fetchall()
    return tuple(
        HeldEntry(
            entry=_entry(connection, seq),
            values=tuple(
                connection.execute(
                    "SELECT name, key_id, ciphertext FROM disclosures WHERE seq = ? AND key_id = ? ORDER BY name",
                    (seq, key_id),
                ).fetchall()
            ),
        )
        for (seq,) in seqs
    )


def erased_by(connection: sqlite3.Connection, alias: str) -> int | None:
    """The newest `erased` entry that forgot keys of `alias`."""
    (seq,) = connection.execute("SELECT max(seq) FROM erased_keys WHERE subject = ?", (alias,)).fetchone()
    return None if seq is None else int(seq)


def _entry(connection: sqlite3.Connection, seq: int) -> Entry:
    (encoded,) = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    return decode(encoded)
