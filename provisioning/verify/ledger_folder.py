"""A ledger's folder, read from outside while the box may be running on it.

Owns a connection that cannot write. Must never keep a read transaction open between pages: it would pin the box's WAL.

* A folder holds no signatures over heads (receipts are signed when asked for): it proves its own consistency and its
  genesis, and an exported log proves the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.ledger.database import SCHEMA_VERSION, database_file
from appliance.ledger.entry import decode
from appliance.ledger.genesis import read_body
from appliance.ledger.head import Head
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.pruned import EntryMissing, StoredLeaves, pruned_below, with_pruned
from appliance.ledger.succession import ROTATION, Rotation, read_rotation
from appliance.ledger.verify import BadEntry
from appliance.model.errors import Corrupt
from provisioning.commands.outcome import CannotDo

PAGE_ENTRIES: Final = 1_000


class LedgerFolder:
    """Entries, tiles and the newest head of a folder."""

    def __init__(self, connection: sqlite3.Connection, head: Head) -> None:
        self._connection = connection
        self.head = head
        self.pruned_below = pruned_below(connection)
        """Bodies of entries below may be gone."""

    def entries(self, size: int | None = None) -> Iterator[bytes]:
        """The first `size` entries (all at the time of opening), a page at a time; pruned ones as `PrunedEntry`.

        Raises:
            BadEntry: `entry_missing`.
        """
        end = self.head.size if size is None else size
        leaves = StoredLeaves(self._connection)
        for start in range(0, end, PAGE_ENTRIES):
            stop = min(start + PAGE_ENTRIES, end)
            rows = self._connection.execute(
                "SELECT seq, entry FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (start, stop)
            ).fetchall()
            try:
                yield from with_pruned(rows, start, stop, below=self.pruned_below, leaf=leaves)
            except EntryMissing as gone:
                if gone.seq < pruned_below(self._connection):
                    raise CannotDo("the box has pruned its log meanwhile", "run the same command again") from gone
                raise BadEntry(gone.seq, "entry_missing", "it is not there") from gone

    def log_keys(self) -> LogKeys:
        """The keys that the log itself names, unverified. Raises Rejected as `read_body` and `read_rotation`."""
        signed = read_body(decode(next(self.entries(1))).body)
        keys = LogKeys.of(signed.log_id, signed.read())
        for rotation in self.rotations():
            keys = keys.then(rotation.period())
        return keys

    def rotations(self) -> list[Rotation]:
        """Every rotation in the log. Reads the whole table: nothing of the box's own tables is believed here."""
        rows = self._connection.execute("SELECT entry FROM entries WHERE kind = ? ORDER BY seq", (ROTATION,))
        return [read_rotation(decode(entry).body) for (entry,) in rows]

    def check_tables(self) -> int:
        """Compare everything that the box derived with the entries, its tables with a replay; how many rows are right.

        Raises:
            Corrupt: `table_mismatch`, and the codes of `scrub`.
        """
        from appliance.ledger.opening import with_own
        from appliance.ledger.scrub import scrub
        from appliance.ledger.tables import check_tables
        from appliance.wiring.projections import projections

        scrub(self._connection, log_id=self.log_keys().log_id, turn=lambda *_: None)
        return check_tables(self._connection, with_own(projections()))

    def stored_tile(self, level: int, number: int) -> bytes:
        """The stored hashes of a full tile; empty when it is missing."""
        row = self._connection.execute(
            "SELECT hashes FROM tiles WHERE level = ? AND number = ?", (level, number)
        ).fetchone()
        return b"" if row is None else bytes(row[0])


@contextmanager
def open_folder(folder: Path) -> Iterator[LedgerFolder]:
    """Open for reading. Raises CannotDo when it is no ledger, Corrupt when SQLite finds the file damaged."""
    file = database_file(folder)
    if not file.is_file():
        raise CannotDo(f"there is no ledger in {folder}", "name the folder that holds ledger.db")
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise CannotDo(f"the ledger has schema {version}, expected {SCHEMA_VERSION}", "use the box's own release")
        connection.execute("BEGIN")  # head and pruning of one moment
        row = connection.execute("SELECT size, root FROM head").fetchone()
        if row is None:
            raise CannotDo(f"the ledger in {folder} has no entries yet", "start the box once")
        ledger = LedgerFolder(connection, Head(size=row[0], root=bytes(row[1])))
        connection.execute("ROLLBACK")
        yield ledger
    except sqlite3.OperationalError as cause:
        raise CannotDo(f"the ledger cannot be read: {cause}", "check access to the folder and its files") from cause
    except sqlite3.DatabaseError as cause:
        raise Corrupt("ledger_damaged", f"SQLite cannot read the file: {cause}") from cause
    finally:
        connection.close()
