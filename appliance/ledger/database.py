"""The ledger's SQLite file: its tables and its connections.

Owns the schema, the pragmas and the names of files. Must never hold a transaction open: that is the caller's.

* Nothing else may open and close `ledger.db` or its `-shm` while a connection lives: closing any descriptor of a file
  drops the process's POSIX locks on it (https://sqlite.org/howtocorrupt.html section 2.2).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from appliance.model.errors import Corrupt

SCHEMA_VERSION = 1
WAL_KEPT_BYTES = 8 << 20  # after a restart of the WAL the file is cut to this, so its size means something

_SCHEMA = (
    # `kind` repeats what the entry says, so that followers need not fetch what they do not want.
    "CREATE TABLE entries (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, entry BLOB NOT NULL)",
    # `root` repeats what 256 hashes say: boot and deep proofs read 32 bytes instead of 8,192.
    "CREATE TABLE tiles (level INTEGER NOT NULL, number INTEGER NOT NULL, root BLOB NOT NULL, hashes BLOB NOT NULL,"
    " PRIMARY KEY (level, number))",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, entry_hash BLOB NOT NULL,"
    " root BLOB NOT NULL)",
    "CREATE TABLE disclosures (seq INTEGER NOT NULL, name TEXT NOT NULL, key_id INTEGER NOT NULL,"
    " ciphertext BLOB NOT NULL, PRIMARY KEY (seq, name)) WITHOUT ROWID",
    "CREATE INDEX disclosures_by_key ON disclosures (key_id)",
    "CREATE TABLE projections (name TEXT PRIMARY KEY, schema_digest BLOB NOT NULL)",
)


def database_file(folder: Path) -> Path:
    """The database inside a ledger's folder; the WAL lies beside it."""
    return folder / "ledger.db"


def wal_file(folder: Path) -> Path:
    """SQLite's own name for the write-ahead log."""
    return folder / "ledger.db-wal"


def connect_writer(folder: Path) -> sqlite3.Connection:
    """The one connection that writes; makes the tables of an empty file.

    Raises:
        Corrupt: the file was made by a newer release.
    """
    connection = _connect(folder)
    # FULL fsyncs the WAL in each commit: that is what "recorded" means. NORMAL would lose the last sales.
    connection.execute("PRAGMA synchronous = FULL")
    # Checkpoints belong to wal.py: SQLite's own, inside a commit, cost p99 20 ms.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
    connection.execute("PRAGMA cache_size = -32768")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        connection.close()
        raise Corrupt("ledger_newer", f"expected schema {SCHEMA_VERSION} or older, saw {version}")
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    return connection


def connect_reader(folder: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = _connect(folder)
    connection.execute("PRAGMA query_only = ON")
    return connection


def connect_checkpointer(folder: Path) -> sqlite3.Connection:
    """A connection that only moves WAL frames into the database."""
    connection = _connect(folder)
    # FULL, so that a checkpoint fsyncs WAL and database before the WAL may be overwritten.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _connect(folder: Path) -> sqlite3.Connection:
    # isolation_level None: Python starts no transaction of its own; BEGIN and COMMIT are written where they happen.
    # check_same_thread off: connections are opened during start-up and then handed to their one owner thread.
    connection = sqlite3.connect(
        database_file(folder), isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection
