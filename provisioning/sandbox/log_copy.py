"""The entries of a box's log as another process reads them: read-only, in short transactions.

Owns reading. Must never open the database for writing, nor hold a transaction: an open one pins the box's WAL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

ROWS_MAX: Final = 1_000


def last_seq(data: Path) -> int:
    """The newest entry's number; -1 in an empty log."""
    with closing(_connect(data)) as database:
        (seq,) = database.execute("select coalesce(max(seq), -1) from entries").fetchone()
    return int(seq)


def stored_entries(data: Path, *, after: int = -1) -> Iterator[bytes]:
    """Every entry after `after`, in order, while the box may be running."""
    with closing(_connect(data)) as database:
        while True:
            rows = database.execute(
                "select seq, entry from entries where seq > ? order by seq limit ?", (after, ROWS_MAX)
            ).fetchall()
            if not rows:
                return
            for seq, entry in rows:
                after = int(seq)
                yield bytes(entry)


def _connect(data: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{(data / 'ledger.db').as_uri()}?mode=ro", uri=True, timeout=10.0)
