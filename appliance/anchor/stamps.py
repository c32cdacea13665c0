"""The rows of timestamps: one for each picked head and each way to a block, and how far it has come.

Owns the states and the SQL. A head goes each way by itself:

    wanted --> pending --> attested --> confirmed        a lost block: back to pending
    (decided)  (promised,  (leads to    (six deep, its
               or sent)     a block)     headers kept)

Without a node `attested` is as far as it gets: nobody has looked whether the block is true.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.anchor.store import set_cursor
from appliance.evidence.block import HEADER_BYTES

NAME: Final = "timestamp"
OWN: Final = "own"
"""The way of our own transaction; every other is a calendar's address."""


class State(StrEnum):
    """How far a head has come on its way."""

    WANTED = "wanted"
    PENDING = "pending"
    ATTESTED = "attested"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One row: `proof` is the `.ots` file so far, `headers` the block's and those behind it, in a row."""

    size: int
    note: bytes
    made_ms: int
    way: str
    state: State
    proof: bytes | None
    headers: bytes

    @property
    def header_list(self) -> list[bytes]:
        return split_headers(self.headers)


def split_headers(headers: bytes) -> list[bytes]:
    """Headers of 80 bytes each, out of one run of them."""
    return [headers[at : at + HEADER_BYTES] for at in range(0, len(headers), HEADER_BYTES)]


def want(connection: sqlite3.Connection, size: int, ways: Sequence[str], now_ms: int) -> None:
    """Decide on a head; what an older one still wanted is forgotten, because the newer one covers it."""
    connection.execute("DELETE FROM timestamps WHERE state = ? AND size < ?", (State.WANTED, size))
    connection.executemany(
        "INSERT INTO timestamps VALUES (?, ?, ?, NULL, NULL, ?) ON CONFLICT DO NOTHING",
        [(size, way, State.WANTED, now_ms) for way in ways],
    )


def move(
    connection: sqlite3.Connection,
    stamp: Stamp,
    state: State,
    now_ms: int,
    *,
    proof: bytes | None,
    headers: bytes = b"",
) -> None:
    """Let `stamp` be in `state`; a block behind it moves the follower's cursor."""
    connection.execute(
        "UPDATE timestamps SET state = ?, proof = ?, detail = ?, updated_ms = ? WHERE size = ? AND way = ?",
        (state, proof, headers, now_ms, stamp.size, stamp.way),
    )
    if state in (State.ATTESTED, State.CONFIRMED):
        set_cursor(connection, NAME, stamp.size)


def unfinished(connection: sqlite3.Connection, count_max: int) -> list[Stamp]:
    """What has a way to go, newest heads first."""
    return _stamps(connection, "state != ? ORDER BY size DESC LIMIT ?", (State.CONFIRMED, count_max))


def confirmed_since(connection: sqlite3.Connection, since_ms: int, count_max: int) -> list[Stamp]:
    """What was confirmed lately: a reorganisation could still take it back."""
    where = "state = ? AND updated_ms > ? ORDER BY size DESC LIMIT ?"
    return _stamps(connection, where, (State.CONFIRMED, since_ms, count_max))


def newest_picked(connection: sqlite3.Connection) -> Stamp | None:
    """A row of the newest head that was decided on."""
    return next(iter(_stamps(connection, "size >= ? ORDER BY size DESC LIMIT 1", (0,))), None)


def covered_ms(connection: sqlite3.Connection) -> int | None:
    """When the newest head was made that a block or an own transaction covers; before the first, when the first was
    decided on; None if none was."""
    query = (
        "SELECT max(c.made_ms) FROM timestamps t JOIN checkpoints c USING (size) WHERE t.state IN (?, ?)"
        " OR (t.way = ? AND t.state = ?)"
    )
    (covered,) = connection.execute(query, (State.ATTESTED, State.CONFIRMED, OWN, State.PENDING)).fetchone()
    if covered is None:
        query = "SELECT min(c.made_ms) FROM timestamps t JOIN checkpoints c USING (size)"
        (covered,) = connection.execute(query).fetchone()
    return None if covered is None else int(covered)


def attested_size(connection: sqlite3.Connection) -> int:
    """Entries that the newest head behind which a block stands covers."""
    query = "SELECT coalesce(max(size), 0) FROM timestamps WHERE state IN (?, ?)"
    (size,) = connection.execute(query, (State.ATTESTED, State.CONFIRMED)).fetchone()
    return int(size)


def own_anchor(connection: sqlite3.Connection, digest: bytes) -> int | None:
    """The number of our own anchor of `digest`."""
    row = connection.execute("SELECT max(number) FROM anchors WHERE digest = ?", (digest,)).fetchone()
    return None if row[0] is None else int(row[0])


def _stamps(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Stamp]:
    query = (
        "SELECT t.size, c.note, c.made_ms, t.way, t.state, t.proof, t.detail FROM timestamps t"  # noqa: S608 - `where` is a constant of this module
        f" JOIN checkpoints c USING (size) WHERE t.{where}"
    )
    return [
        Stamp(
            size=row[0],
            note=row[1],
            made_ms=row[2],
            way=row[3],
            state=State(row[4]),
            proof=row[5],
            headers=row[6] or b"",
        )
        for row in connection.execute(query, values)
    ]
