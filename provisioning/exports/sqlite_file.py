"""Writes a log as an auditor's SQLite file: verified while it is read, in bounded memory, whole or not at all.

Must never hold a disclosure, nor rows of a log that did not verify.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import sqlite_utils

from appliance.ledger.entry import decode
from appliance.ledger.pruned import PrunedEntry
from appliance.ledger.verify import VerifiedLog
from provisioning.exports import tables
from provisioning.exports.days import Days
from provisioning.exports.output import new_file
from provisioning.exports.rows import Change, Row, rows_of
from provisioning.exports.source import Source

BATCH_ENTRIES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the file holds."""

    log: VerifiedLog
    problems: int


def export_sqlite(output: Path, source: Source, proof: str) -> Written:
    """Write the log of `source`; `proof` says in the readme what vouches for it.

    Raises:
        Whatever `source` raises; then nothing was written.
    """
    with new_file(output) as partial:
        database = sqlite_utils.Database(partial)
        with closing(database.conn), closing(Days()) as days:
            # The file is thrown away when anything fails: a journal would only halve the speed.
            database.conn.execute("PRAGMA journal_mode = OFF")
            database.conn.execute("PRAGMA synchronous = OFF")
            tables.create(database)
            filling = _Filling(database, days)
            log = source(filling.tap)
            database.table("days").insert_all(days.rows())
            tables.finish(database)
            database.table("readme").insert_all(
                {"item": item, "value": value}
                for item, value in _readme(log, proof, filling.problems, days.left_out).items()
            )
            database.conn.commit()
    return Written(log=log, problems=filling.problems)


class _Filling:
    """Fills the tables behind the verifier: an entry is written only after the verifier had no objection."""

    def __init__(self, database: sqlite_utils.Database, days: Days) -> None:
        self._database = database
        self._days = days
        self._batch: list[Row | Change] = []
        self.problems = 0

    def tap(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """Pass `entries` on, and write each that came back without an objection."""
        # One behind: to explain a bad entry the verifier asks for the one after it.
        previous: bytes | None = None
        for number, encoded in enumerate(entries):
            yield encoded
            if previous is not None:
                self._add(previous)
            previous = encoded
            if not number % BATCH_ENTRIES:
                self._write()
        if previous is not None:
            self._add(previous)
        self._write()

    def _add(self, encoded: bytes) -> None:
        if isinstance(encoded, PrunedEntry):
            return
        entry = decode(encoded)
        made = rows_of(entry)
        self._batch += made
        if isinstance(made[0], Row) and made[0].cells["problem"] is not None:
            self.problems += 1
        else:
            self._days.add(entry, _currency(made))

    def _write(self) -> None:
        # Rows first, table by table; changes may be about rows of the same batch and go in the log's order.
        rows = sorted((made for made in self._batch if isinstance(made, Row)), key=lambda row: row.table)
        with self._database.conn:
            for table, group in groupby(rows, key=lambda row: row.table):
                columns = tables.TABLES[table][0]
                cells = [[row.cells.get(column) for column in columns] for row in group]
                marks = ", ".join("?" for _ in columns)
                self._database.conn.executemany(f"INSERT INTO [{table}] VALUES ({marks})", cells)  # noqa: S608 - our own names
            for made in self._batch:
                if isinstance(made, Change):
                    set_to = ", ".join(f"[{column}] = ?" for column in made.cells)
                    statement = f"UPDATE [{made.table}] SET {set_to} WHERE [{made.column}] = ?"  # noqa: S608 - our own names
                    self._database.conn.execute(statement, [*made.cells.values(), made.key])
        self._batch.clear()


def _currency(made: list[Row | Change]) -> str | None:
    """What the entry's amounts are in, where its rows say it."""
    found = (each.cells.get("currency") for each in made if isinstance(each, Row))
    return next((currency for currency in found if isinstance(currency, str)), None)


def _readme(log: VerifiedLog, proof: str, problems: int, left_out: int) -> dict[str, str]:
    return {
        "what": "The whole log of one Tillstone box as tables, for auditors. The log proves; these tables only show.",
        "log": "" if log.log_id is None else log.log_id.hex(),
        "origin": "" if log.genesis is None else log.genesis.origin,
        "size": str(log.size),
        "root": log.root.hex(),
        "proof": proof,
        "pruned": f"{log.pruned} entries have no rows: the box has removed them, the log holds their hashes only",
        "problems": f"{problems} entries break their kind's promise: see entries.problem",
        "amounts": "whole minor units of the currency beside them (1250 EUR is 12.50); columns end in _minor",
        "times": "ISO 8601, UTC; time is when the box recorded, sold_at what the till said; days are UTC days",
        "rows": "seq is the entry a row comes from; payment is the till's key of the payment",
        "approved": "sales.approved is 1 once a sale or part was paid, or its card accepted offline, also when its"
        " money was given back or lost later (refunds, state)",
        "days": "counted as in report z and close-day: a sale in parts once, when it is complete; what is left of"
        " incomplete ones is parts_taken - parts_sold - parts_returned; what banks declined later (lost) stays in"
        f" the sales; {left_out} entries are left out, as what they end is pruned or malformed",
        "persons": "no names and no signed requests: those are disclosures, can be erased, and never leave in a file",
        "search": "full text: sales_fts (reference), lines_fts (sku), operations_fts (reference, code)",
    }
