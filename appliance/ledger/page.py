"""Pages: the log as its followers read it, a bounded piece at a time.

Owns the query. Must never keep a transaction between two pages: the caller's cursor is all that lasts.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.rebuild import recorded_entry

PAGE_ENTRIES_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Entries for a follower. Go on with `after=next_after`; the log was read to its end when it stays the same."""

    entries: tuple[RecordedEntry, ...]
    next_after: int


def read_page(connection: sqlite3.Connection, after: int, count: int, kinds: frozenset[str] | None) -> Page:
    """The next `count` entries behind `after`; those of other kinds are passed over, not returned."""
    rows = connection.execute(
        "SELECT seq, kind, CASE WHEN ?3 OR kind IN (SELECT value FROM json_each(?4)) THEN entry END FROM entries"
        " WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        (after, count, kinds is None, json.dumps(sorted(kinds or ()))),
    ).fetchall()
    return Page(
        entries=tuple([recorded_entry(encoded) for _, _, encoded in rows if encoded is not None]),
        next_after=rows[-1][0] if rows else after,
    )
