"""Rows in bulk: many rows per statement, because each step of a statement hands the interpreter lock away.

`executemany` makes one step a row. With a busy event loop beside it the writer then waits for the lock at every row, up
to a whole switch interval (`writer.py`): that, not SQLite, was the time of a group.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

# Powers of two, so that any number of rows needs few statements and SQLite keeps all of them prepared.
_STATEMENT_ROWS_MAX: Final = 128


def insert_rows(connection: sqlite3.Connection, insert: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert `rows`, all of one width.

    Args:
        insert: the statement up to its values, as `INSERT INTO head (one, size) VALUES`; our own text, never input.
    """
    at = 0
    while at < len(rows):
        count = min(_STATEMENT_ROWS_MAX, 1 << ((len(rows) - at).bit_length() - 1))
        marks = f"({','.join('?' * len(rows[at]))})"
        connection.execute(f"{insert} {','.join([marks] * count)}", tuple(chain.from_iterable(rows[at : at + count])))
        at += count
