"""Sales made while the box could not be reached, on disk until each has its result.

Owns store and forward. Its rules:
- a sale is durable before the till hands over the goods, under the key that it keeps for ever;
- a batch, once made, keeps its key and its sales until it is answered: a retry after a power cut says the same;
- a result never disappears: a refused sale waits here for a person.

Blocking, because SQLite is: call it with `asyncio.to_thread` from an event loop.
Source: docs/formats/terminal-protocol.md section 8.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.model.limits import BATCH_BYTES_MAX, BATCH_SALES_MAX
from appliance.wire.answers import BatchAnswer
from appliance.wire.requests import BatchBody, BatchItem, PaymentBody

_ROOM_FOR_CLAIMS_BYTES: Final = 64 * 1024
_SCHEMA: Final = """
create table if not exists sales (
  key text primary key, payment blob not null, batch text, state text, code text, detail text
) strict, without rowid;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingBatch:
    """A batch to send, with the key that it keeps on every retry."""

    key: RequestKey
    body: BatchBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a stored sale; `code` and `detail` are there when it was refused."""

    key: RequestKey
    state: str
    code: str | None
    detail: str | None


class SaleQueue:
    """Stored sales of one terminal, in one SQLite file."""

    def __init__(self, *, path: Path) -> None:
        self._path = path
        if not path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        with self._database() as database:
            database.executescript(_SCHEMA)

    def store(self, key: RequestKey, payment: PaymentBody) -> None:
        """Make a sale durable. Storing the same sale again is fine.

        Raises:
            Rejected: `key_reused` (another sale has the key), `only_cash_is_stored`.
        """
        if any(tender.kind in ("card", "voucher") for tender in payment.tenders):
            raise Rejected(
                "only_cash_is_stored",
                "a card or voucher cannot be charged later: only what holds by itself is stored",
            )
        encoded = msgspec.json.encode(payment)
        with self._database() as database:
            database.execute("insert or ignore into sales (key, payment) values (?, ?)", (str(key), encoded))
            (kept,) = database.execute("select payment from sales where key = ?", (str(key),)).fetchone()
        if kept != encoded:
            raise Rejected("key_reused", f"another sale is stored under {key}")

    def next_batch(self, new_batch_key: RequestKey) -> WaitingBatch | None:
        """The batch to send now: an unanswered one as it was, else the oldest sales under `new_batch_key`."""
        with self._database() as database:
            row = database.execute(
                "select batch from sales where state is null and batch is not null order by batch limit 1"
            ).fetchone()
            batch = str(new_batch_key) if row is None else str(row[0])
            if row is None and not _gather(database, batch):
                return None
            rows = database.execute("select key, payment from sales where batch = ? order by key", (batch,)).fetchall()
        items = tuple(
            BatchItem(key=key, payment=msgspec.json.decode(payment, type=PaymentBody)) for key, payment in rows
        )
        return WaitingBatch(key=request_key(batch), body=BatchBody(items=items))

    def settle(self, answer: BatchAnswer) -> None:
        """Keep the results of a batch; from here on its sales are not sent again."""
        with self._database() as database:
            database.executemany(
                "update sales set state = ?, code = ?, detail = ? where key = ?",
                [(result.state, result.code, result.detail, result.key) for result in answer.results],
            )

    def waiting_count(self) -> int:
        """Sales without a result."""
        with self._database() as database:
            (count,) = database.execute("select count(*) from sales where state is null").fetchone()
        return int(count)

    def settled(self, state: str | None = None) -> tuple[Settled, ...]:
        """Results in the order of the keys, all or those with `state`, such as "refused"."""
        with self._database() as database:
            rows = database.execute(
                "select key, state, code, detail from sales where state is not null and (?1 is null or state = ?1) "
                "order by key",
                (state,),
            ).fetchall()
        return tuple(
            Settled(key=request_key(key), state=state, code=code, detail=detail) for key, state, code, detail in rows
        )

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        # A connection for each call: it belongs to one thread, and calls come from many.
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = full")  # a commit survives a power cut
            with database:
                yield database


def _gather(database: sqlite3.Connection, batch: str) -> int:
    """Put the oldest free sales into `batch`, as many as a request may hold; returns how many."""
    size_bytes = _ROOM_FOR_CLAIMS_BYTES
    keys: list[tuple[str, str]] = []
    for key, payment_bytes in database.execute(
        "select key, length(payment) from sales where state is null and batch is null order by key limit ?",
        (BATCH_SALES_MAX,),
    ):
        # JWS sends base64 of the JSON: four bytes for three.
        size_bytes += (payment_bytes + 128) * 4 // 3
        if keys and size_bytes > BATCH_BYTES_MAX:
            break
        keys.append((batch, key))
    database.executemany("update sales set batch = ? where key = ?", keys)
    return len(keys)
