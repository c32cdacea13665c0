"""The epoch that the log is in: a table of one row, for comparing with the TPM's counter at each start."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from appliance.ledger.draft import Draft, RecordedEntry
from appliance.ledger.epoch import KIND, epoch_body, read_epoch
from appliance.ledger.ledger import Ledger


class EpochProjection:
    """Keeps the newest epoch."""

    name: Final = "epoch"
    tables: Final = ("epochs",)
    schema: Final = ("CREATE TABLE epochs (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL)",)
    kinds: Final = frozenset({KIND})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """The last entry wins."""
        connection.execute("INSERT OR REPLACE INTO epochs VALUES (1, ?)", (read_epoch(recorded[-1].body),))


def epoch_draft(epoch: int, now_ms: int) -> Draft:
    """The entry that begins `epoch`."""
    return Draft(kind=KIND, actor="box", time_ms=now_ms, body=epoch_body(epoch))


async def epoch_of(ledger: Ledger) -> int:
    """The epoch that the log is in."""
    row = await ledger.read(lambda connection: connection.execute("SELECT epoch FROM epochs").fetchone())
    return 0 if row is None else int(row[0])
