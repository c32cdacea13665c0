"""The reader: short read transactions on one thread, bounded in number and length.

Owns the reading connection. Must never keep a transaction between two queries: an open one pins the WAL, and it grows.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from appliance.model.errors import Bug, Unavailable

READS_WAITING_MAX = 256
# About a second of SQLite's work: a query without an index is a mistake, found in tests, stopped in a shop.
STEPS_MAX = 20_000_000
_STEPS_PER_CALL = 1_000_000

_T = TypeVar("_T")


class Reader:
    """Runs queries one after the other."""

    def __init__(self, connection: sqlite3.Connection, *, waiting_max: int = READS_WAITING_MAX) -> None:
        self._connection = connection
        self._waiting_max = waiting_max
        self._connection.set_progress_handler(self._count_steps, _STEPS_PER_CALL)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._waiting = 0
        self._calls = 0

    async def read(self, query: Callable[[sqlite3.Connection], _T], *, may_refuse: bool = True) -> _T:
        """Run `query` in its own read transaction.

        Raises:
            Unavailable: `ledger_busy`, too many reads wait; never without `may_refuse`.
            Bug: `read_too_long`.
        """
        if may_refuse and self._waiting >= self._waiting_max:
            raise Unavailable("ledger_busy", f"expected at most {self._waiting_max} reads waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread and close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._connection.close()

    def _run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        self._calls = 0
        self._connection.execute("BEGIN")
        try:
            return query(self._connection)
        except sqlite3.OperationalError as error:
            # The module's own errors (a text that is not UTF-8) carry no code of SQLite's.
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise Bug("read_too_long", f"a query took more than {STEPS_MAX} steps") from error
            raise
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _count_steps(self) -> int:
        self._calls += 1
        return int(self._calls * _STEPS_PER_CALL > STEPS_MAX)
