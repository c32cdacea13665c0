"""What the owner said in this log after its genesis: rotations and distrusted keys, as a projection.

Owns the table. Must never judge a statement: the box wrote it after it was verified, a stranger verifies it again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final

from appliance.crypto.owner import SignedStatement
from appliance.ledger.draft import RecordedEntry
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.succession import DISTRUST, ROTATION, read_rotation


class Spoken:
    """One row per entry, in order."""

    name: Final = "spoken"
    tables: Final = ("spoken",)
    schema: Final = (
        "CREATE TABLE spoken (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL,"
        " statement_hash BLOB NOT NULL UNIQUE)",
    )
    kinds: Final = frozenset({ROTATION, DISTRUST})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Keep the bodies as they are; what was said once is said, so a repetition fails here."""
        connection.executemany(
            "INSERT INTO spoken VALUES (?, ?, ?, ?)",
            [(entry.seq, entry.kind, entry.body, statement_hash(entry.kind, entry.body)) for entry in recorded],
        )


def statement_hash(kind: str, body: bytes) -> bytes:
    """SHA-256 of the owner's statement in the body of an entry of `kind`."""
    signed = read_rotation(body).by_owner if kind == ROTATION else SignedStatement.decode(body)
    return hashlib.sha256(signed.statement).digest()


def read_log_keys(connection: sqlite3.Connection, first: LogKeys) -> LogKeys:
    """The keys of the log through its life, as its own entries say."""
    keys = first
    for (body,) in connection.execute("SELECT body FROM spoken WHERE kind = ? ORDER BY seq", (ROTATION,)):
        keys = keys.then(read_rotation(body).period())
    return keys
