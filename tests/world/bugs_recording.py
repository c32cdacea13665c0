"""Bugs of the ledger, and of keys and tries that lie in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from appliance.ledger import database, opening
from appliance.ledger.draft import RecordedEntry
from appliance.ledger.group import Append
from appliance.ledger.writer import Settled, Writer
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.payment import (
    batch,
    linked,
    may_begin,
    projection,
    repeats,
)
from appliance.payment.entry_body import body_of
from appliance.payment.records import find_request
from appliance.wire import entries
from tests.world.bug import bug, put


@bug("fsync is slow, and the kernel writes it out soon enough.", seed=2)
def drop_the_fsync() -> None:
    right = database.connect_writer

    def fast(folder: Path) -> sqlite3.Connection:
        connection = right(folder)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    put(opening, connect_writer=fast)


@bug("What SQLite finds at the start is what the disk holds.", seed=1)
def believe_clean_looking_pages() -> None:
    put(opening, rewrite_wal=lambda _: None)


@bug("The till need not wait for the disk: the commit is about to happen.", seed=8)
def answer_before_commit() -> None:
    transact, commit = Writer._transact, Writer._commit

    def hasty(self: Writer, members: Sequence[Append]) -> Settled:
        vars(self)["_commit"] = lambda: None
        settled = transact(self, members)
        del vars(self)["_commit"]
        self._settle(settled)
        if self._connection.in_transaction:
            commit(self)
        return replace(settled, tiles=(), answers=())

    put(Writer, _transact=hasty)


@bug("A key that was used is the same request again.", seed=36)
def accept_a_replayed_key_with_another_payload() -> None:
    async def never(*_: object) -> bool:
        return False

    put(repeats, _differs=never)


@bug("A payment that was cancelled before it came is a payment like any other.", seed=3)
def ignore_a_tombstone() -> None:
    def unless_tombstone(key: RequestKey) -> Any:
        return _FreshOrTombstone(key=key)

    for module in (may_begin, batch):
        put(module, unused=unless_tombstone)
    _insert_over()


@bug("The reversal comes by itself: the entry says that it is wanted.", seed=3)
def lose_the_mark_of_a_wanted_reversal() -> None:
    def only_the_request(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
        body = body_of(entry, entries.ReversalWantedEntry)
        if body.asked is not None:
            row = projection._request_row(entry, body.asked, "reversal", body.payment)
            connection.execute(projection._INSERT_REQUEST, row)

    projection._APPLY[entries.REVERSAL_WANTED] = only_the_request


@bug("The cashier will reverse the card that came too late.", seed=3)
def let_the_outlived_try_stand() -> None:
    put(linked, _kept=lambda _: ())


@bug("A try that is looked at stands as it was looked at.", seed=2)
def let_any_retry_begin() -> None:
    put(linked._OnlyRetry, check=lambda *_: None)


@bug("What a till does not name is no try of its sale.", seed=6)
def look_at_named_tries_alone() -> None:
    def named(_: sqlite3.Connection, keys: tuple[RequestKey, ...]) -> tuple[RequestKey, ...]:
        return keys

    put(linked, tries_of_sale=named)


@bug("What is in the drawer is tendered minus change, and the rounding.", seed=1)
def count_a_rounding_twice() -> None:
    right = projection._payment_row

    def twice(entry: RecordedEntry, asked: entries.Asked, sale: entries.SaleFacts, *rest: Any) -> Any:
        return right(entry, asked, msgspec.structs.replace(sale, change=max(0, sale.change - sale.rounding)), *rest)

    put(projection, _payment_row=twice)


@bug("Stored sales were checked by the till.", seed=3)
def take_stored_sales_unchecked() -> None:
    put(batch, unused=lambda _: None)
    _insert_over()


@dataclass(frozen=True, slots=True, kw_only=True)
class _FreshOrTombstone:
    key: RequestKey

    def check(self, connection: sqlite3.Connection) -> None:
        known = find_request(connection, self.key)
        if known is not None and not known.is_tombstone:
            raise Rejected("key_used", "this key was used")


def _insert_over() -> None:
    for name in ("_INTO_REQUESTS", "_INTO_PAYMENTS", "_INSERT_REQUEST", "_INSERT_PAYMENT"):
        statement: str = getattr(projection, name)
        put(projection, **{name: statement.replace("INSERT", "INSERT OR REPLACE")})
