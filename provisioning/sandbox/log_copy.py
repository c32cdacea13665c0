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


def stored_entries(data: Path, *, after: int = -1) -> Iterator[bytes]:
    """Every entry after `after`, in order, while the box may be running."""
    with closing(sqlite3.connect(f"file:{data / 'ledger.db'}?mode=ro", uri=True, timeout=10.0)) as database:
        while True:
            rows = database.execute(
                "select seq, entry from entries where seq > ? order by seq limit ?", (after, ROWS_MAX)
            ).fetchall()
            if not rows:
                return
            for seq, entry in rows:
                after = int(seq)
                yield bytes(entry)
