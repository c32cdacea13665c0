"""The write-ahead log's size: checkpoints beside the commits, not inside them.

Owns the checkpoint thread and the two thresholds. Must never begin a transaction.

* From 8 MB on the thread runs PASSIVE checkpoints, which block nobody. SQLite's own checkpoint inside a commit cost
  p99 20 ms (measured).
* A writer that never pauses keeps PASSIVE from ever reaching the end, and the WAL grows. At 64 MB the writer itself
  runs RESTART: little is left to copy by then, and the next commit starts the WAL from its beginning.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from appliance.ledger.database import WAL_KEPT_BYTES, connect_checkpointer, wal_file

PASSIVE_FROM_BYTES = WAL_KEPT_BYTES
PASSIVE_STEP_BYTES = 4 << 20
RESTART_FROM_BYTES = 64 << 20

# A full disk or a long reader leaves the WAL longer, nothing else; the next checkpoint tries again.
_HARMLESS = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class WalKeeper:
    """Keeps the WAL short. `fail` hears of a checkpoint that the disk refused."""

    def __init__(self, folder: Path, fail: Callable[[Exception], None]) -> None:
        self._wal = wal_file(folder)
        self._folder = folder
        self._fail = fail
        self._last_asked_bytes = 0
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a running checkpoint ends first."""
        self._is_closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def after_commit(self, writer: sqlite3.Connection) -> None:
        """Called by the writer, after its answers have left. stat, never open: see database.py."""
        size_bytes = os.stat(self._wal).st_size
        if size_bytes < self._last_asked_bytes:
            self._last_asked_bytes = 0  # the WAL was restarted and cut
        if size_bytes >= RESTART_FROM_BYTES:
            _checkpoint(writer, "RESTART")
            self._last_asked_bytes = 0
        elif size_bytes >= PASSIVE_FROM_BYTES and size_bytes >= self._last_asked_bytes + PASSIVE_STEP_BYTES:
            self._last_asked_bytes = size_bytes
            self._wake.set()

    def _run(self) -> None:
        connection = connect_checkpointer(self._folder)
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._is_closing:
                    return
                _checkpoint(connection, "PASSIVE")
        except sqlite3.Error as error:
            # The fsync of the database or the WAL failed: the frames are still in the WAL, but what else the disk has
            # dropped nobody knows. Same rule as a failed commit.
            self._fail(error)
        finally:
            connection.close()


def _checkpoint(connection: sqlite3.Connection, mode: str) -> None:
    try:
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF not in _HARMLESS:
            raise
