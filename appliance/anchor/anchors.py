"""The tables of own anchors: digests that we put into blocks by our own transactions, and every version of each.

Owns the rows and nothing else; the box keeps them in `evidence.db`, the calendar server in its own file. A row is
written before anything is sent, so that a process killed anywhere sends the same bytes again, never others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from appliance.ports.chain import BlockHash, Coin, Outpoint, TransactionId

TABLES: Final = (
    # `height`, `block`, `transaction_id`, `timestamp`: NULL until a block holds one of its versions; the timestamp
    # leads from the digest to that block.
    "CREATE TABLE anchors (number INTEGER PRIMARY KEY, digest BLOB NOT NULL, made_ms INTEGER NOT NULL, height INTEGER,"
    " block BLOB, transaction_id BLOB, timestamp BLOB)",
    # Each fee bump is a version: same coins, higher fee. `coins`: what it spends, 44 bytes each.
    "CREATE TABLE anchor_versions (transaction_id BLOB PRIMARY KEY, anchor INTEGER NOT NULL REFERENCES anchors,"
    " version INTEGER NOT NULL, raw BLOB NOT NULL, stripped BLOB NOT NULL, coins BLOB NOT NULL,"
    " change_sat INTEGER NOT NULL, fee_sat INTEGER NOT NULL, made_ms INTEGER NOT NULL, UNIQUE (anchor, version))",
    # One row: the last block that was looked through.
    "CREATE TABLE anchor_scan (only INTEGER PRIMARY KEY CHECK (only = 0), height INTEGER NOT NULL,"
    " block BLOB NOT NULL)",
)

_COIN_BYTES: Final = 44

T = TypeVar("T")


class Store(Protocol):
    """A SQLite file with a thread of its own (`anchor/store.py`)."""

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T: ...
    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """Where an anchor lies: the block, the version in it, and the encoded timestamp from the digest to the block."""

    height: int
    block_hash: BlockHash
    transaction_id: TransactionId
    timestamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One digest on its way; `mined` is None while no block of the best chain holds it."""

    number: int
    digest: bytes
    made_ms: int
    mined: Mined | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One signed transaction of an anchor. The coins' scripts are our own and not stored."""

    anchor: int
    version: int
    transaction_id: TransactionId
    raw: bytes
    stripped: bytes
    coins: tuple[Coin, ...]
    change_sat: int
    fee_sat: int
    made_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """The last block that was looked through."""

    height: int
    block_hash: BlockHash


def add_anchor(connection: sqlite3.Connection, digest: bytes, made_ms: int) -> int:
    """A new anchor; returns its number."""
    number = connection.execute("INSERT INTO anchors (digest, made_ms) VALUES (?, ?)", (digest, made_ms)).lastrowid
    return number or 0


def add_version(connection: sqlite3.Connection, version: Version) -> None:
    row = (
        version.transaction_id,
        version.anchor,
        version.version,
        version.raw,
        version.stripped,
        b"".join(map(_encode_coin, version.coins)),
        version.change_sat,
        version.fee_sat,
        version.made_ms,
    )
    connection.execute("INSERT INTO anchor_versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def anchor(connection: sqlite3.Connection, number: int) -> Anchor:
    """The anchor `number`, which exists."""
    return next(_anchors(connection, "WHERE number = ?", number))


def newest_anchor(connection: sqlite3.Connection) -> Anchor | None:
    return next(_anchors(connection, "WHERE number >= ? ORDER BY number DESC LIMIT 1", 0), None)


def oldest_waiting(connection: sqlite3.Connection) -> Anchor | None:
    """The first anchor that no block holds."""
    return next(_anchors(connection, "WHERE height IS NULL AND number >= ? ORDER BY number LIMIT 1", 0), None)


def mined_above(connection: sqlite3.Connection, height: int) -> list[Anchor]:
    return list(_anchors(connection, "WHERE height > ? ORDER BY number", height))


def versions(connection: sqlite3.Connection, number: int, script: bytes) -> list[Version]:
    """Every version of an anchor, oldest first; at least one."""
    rows = connection.execute(
        "SELECT anchor, version, transaction_id, raw, stripped, coins, change_sat, fee_sat, made_ms"
        " FROM anchor_versions WHERE anchor = ? ORDER BY version",
        (number,),
    )
    return [
        Version(
            anchor=row[0],
            version=row[1],
            transaction_id=TransactionId(row[2]),
            raw=row[3],
            stripped=row[4],
            coins=_decode_coins(row[5], script),
            change_sat=row[6],
            fee_sat=row[7],
            made_ms=row[8],
        )
        for row in rows
    ]


def waiting_versions(connection: sqlite3.Connection) -> dict[TransactionId, tuple[int, bytes, bytes]]:
    """Every version of every anchor that no block holds: its anchor, the stripped bytes and the digest."""
    rows = connection.execute(
        "SELECT v.transaction_id, v.anchor, v.stripped, a.digest FROM anchor_versions v JOIN anchors a"
        " ON a.number = v.anchor WHERE a.height IS NULL"
    )
    return {TransactionId(row[0]): (row[1], row[2], row[3]) for row in rows}


def anchor_of(connection: sqlite3.Connection, transaction_id: TransactionId) -> Anchor | None:
    """The anchor of which this is a version."""
    return next(
        _anchors(
            connection, "WHERE number = (SELECT anchor FROM anchor_versions WHERE transaction_id = ?)", transaction_id
        ),
        None,
    )


def spent_outpoints(connection: sqlite3.Connection, script: bytes) -> set[Outpoint]:
    """Everything that any version spends."""
    rows = connection.execute("SELECT DISTINCT coins FROM anchor_versions")
    return {coin.outpoint for (coins,) in rows for coin in _decode_coins(coins, script)}


def fees_since(connection: sqlite3.Connection, since_ms: int, without: int) -> int:
    """Satoshi that anchors made since then pay at most, other than the anchor `without`: of each only one is mined."""
    (fees,) = connection.execute(
        "SELECT coalesce(sum(fee), 0) FROM (SELECT max(v.fee_sat) AS fee FROM anchor_versions v JOIN anchors a"
        " ON a.number = v.anchor WHERE a.made_ms > ? AND a.number != ? GROUP BY v.anchor)",
        (since_ms, without),
    ).fetchone()
    return int(fees)


def set_mined(connection: sqlite3.Connection, number: int, mined: Mined) -> None:
    connection.execute(
        "UPDATE anchors SET height = ?, block = ?, transaction_id = ?, timestamp = ? WHERE number = ?",
        (mined.height, mined.block_hash, mined.transaction_id, mined.timestamp, number),
    )


def set_waiting(connection: sqlite3.Connection, number: int) -> None:
    """Its block lost: it waits for another."""
    connection.execute(
        "UPDATE anchors SET height = NULL, block = NULL, transaction_id = NULL, timestamp = NULL WHERE number = ?",
        (number,),
    )


def scanned(connection: sqlite3.Connection) -> Scanned | None:
    row = connection.execute("SELECT height, block FROM anchor_scan").fetchone()
    return None if row is None else Scanned(height=row[0], block_hash=BlockHash(row[1]))


def set_scanned(connection: sqlite3.Connection, at: Scanned) -> None:
    connection.execute("INSERT OR REPLACE INTO anchor_scan VALUES (0, ?, ?)", (at.height, at.block_hash))


def _anchors(connection: sqlite3.Connection, where: str, value: int | bytes) -> Iterator[Anchor]:
    query = f"SELECT number, digest, made_ms, height, block, transaction_id, timestamp FROM anchors {where}"  # noqa: S608 - `where` is a constant of this module
    for number, digest, made_ms, height, block_hash, transaction_id, timestamp in connection.execute(query, (value,)):
        mined = None
        if height is not None:
            mined = Mined(
                height=height,
                block_hash=BlockHash(block_hash),
                transaction_id=TransactionId(transaction_id),
                timestamp=timestamp,
            )
        yield Anchor(number=number, digest=digest, made_ms=made_ms, mined=mined)


def _encode_coin(coin: Coin) -> bytes:
    point = coin.outpoint
    return point.transaction_id + point.index.to_bytes(4, "little") + coin.value_sat.to_bytes(8, "little")


def _decode_coins(encoded: bytes, script: bytes) -> tuple[Coin, ...]:
    return tuple(
        Coin(
            outpoint=Outpoint(
                transaction_id=TransactionId(encoded[at : at + 32]),
                index=int.from_bytes(encoded[at + 32 : at + 36], "little"),
            ),
            value_sat=int.from_bytes(encoded[at + 36 : at + _COIN_BYTES], "little"),
            script=script,
        )
        for at in range(0, len(encoded), _COIN_BYTES)
    )
