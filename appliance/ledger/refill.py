"""A log's database from its verified bytes: entries, tiles and head, as the box that wrote them had them.

Owns the rows. Must never decide whether an entry is right: it stands inside `verify_log`'s walk, and what that refuses
leaves a database without a head, which no box opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from appliance.ledger.database import connect_writer
from appliance.ledger.entry import decode
from appliance.ledger.merkle import Frontier, Tile, leaf_hash
from appliance.ledger.projection import Projection
from appliance.ledger.pruned import PrunedEntry
from appliance.ledger.rebuild import rebuild
from appliance.ledger.rows import insert_rows
from appliance.ledger.verify import VerifiedLog

_ROWS_AT_ONCE: Final = 1_024


class Refill:
    """Fills the empty database in a folder.

    Not durable, row by row, until `end`: what a crash leaves is thrown away whole.

    Args:
        marked_size: a size whose root is wanted on the way.
    Attributes:
        marked_root: that root; empty while fewer entries were taken.
    """

    def __init__(self, folder: Path, *, marked_size: int = 0) -> None:
        self._connection = connect_writer(folder)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA wal_autocheckpoint = 4000")
        self._connection.execute("BEGIN")
        self._frontier = Frontier()
        self._tiles: list[Tile] = []
        self._rows: list[tuple[int, str, bytes]] = []
        self._size = 0
        self._marked_size = marked_size
        self.marked_root = b""

    def taking(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """`entries` as they come; each is kept once the walk has asked for the next, and so has accepted it.

        Raises:
            Corrupt: as `entry.decode`.
        """
        for encoded in entries:
            yield encoded
            self._take(encoded)

    def add_disclosures(self, rows: Sequence[Sequence[Any]]) -> None:
        """Values that may be erased (seq, name, key id, ciphertext)."""
        insert_rows(self._connection, "INSERT INTO disclosures (seq, name, key_id, ciphertext) VALUES", rows)

    def end(self, log: VerifiedLog, projections: Sequence[Projection]) -> None:
        """Write the head, make the tables, all of it durable.

        Raises:
            Corrupt: as `rebuild`, for a pruned log.
        """
        self._flush()
        self._connection.execute(
            "INSERT INTO head (one, size, entry_hash, root) VALUES (1, ?, ?, ?)", (log.size, log.entry_hash, log.root)
        )
        self._connection.execute("COMMIT")
        rebuild(self._connection, projections, None)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _take(self, encoded: bytes) -> None:
        if isinstance(encoded, PrunedEntry):
            self._frontier.append(bytes(encoded), self._tiles)
        else:
            self._rows.append((self._size, decode(encoded).kind, encoded))
            self._frontier.append(leaf_hash(encoded), self._tiles)
        self._size += 1
        if self._size == self._marked_size:
            self.marked_root = self._frontier.root()
        if len(self._rows) >= _ROWS_AT_ONCE or len(self._tiles) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        insert_rows(self._connection, "INSERT INTO entries (seq, kind, entry) VALUES", self._rows)
        tiles = [(tile.level, tile.index, tile.root, tile.hashes) for tile in self._tiles]
        insert_rows(self._connection, "INSERT INTO tiles (level, number, root, hashes) VALUES", tiles)
        self._rows.clear()
        self._tiles.clear()
