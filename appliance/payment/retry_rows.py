"""Table of linked retries, derived from entries alone: which payment tries which again; never walked without a bound.

A retry names every try of its sale before it: what belongs together does not depend on which of them reached the box.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from typing import Final

from appliance.model.ids import RequestKey
from appliance.model.limits import SALE_TRIES_MAX

TABLES: Final = ("retries",)
SCHEMA: Final = (
    "CREATE TABLE retries (payment BLOB NOT NULL, earlier BLOB NOT NULL, PRIMARY KEY (payment, earlier)) WITHOUT ROWID",
    "CREATE INDEX retries_later ON retries (earlier)",
)
_EARLIER: Final = "SELECT earlier FROM retries WHERE payment = ?"
_LATER: Final = "SELECT payment FROM retries WHERE earlier = ?"


def link(connection: sqlite3.Connection, payment: bytes, earlier: Sequence[bytes]) -> None:
    """`payment` tries `earlier` again."""
    if earlier:  # most payments are no retry
        connection.executemany("INSERT INTO retries VALUES (?, ?)", [(payment, each) for each in earlier])


def tries_before(connection: sqlite3.Connection, key: RequestKey) -> tuple[RequestKey, ...]:
    """What the payment `key` tried again, and what those did."""
    return tuple(each for each in with_earlier(connection, (key,)) if each != key)


def tries_after(connection: sqlite3.Connection, key: RequestKey) -> tuple[RequestKey, ...]:
    """What tries the payment `key` again, and what tries those."""
    return tuple(each for each in _walk(connection, (key,), (_LATER,)) if each != key)


def with_earlier(connection: sqlite3.Connection, keys: Sequence[RequestKey]) -> tuple[RequestKey, ...]:
    """`keys`, and what they tried again, and so on."""
    return _walk(connection, keys, (_EARLIER,))


def tries_of_sale(connection: sqlite3.Connection, keys: Sequence[RequestKey]) -> tuple[RequestKey, ...]:
    """`keys`, and every try that is linked with one of them; where there are too many, more than a sale may have."""
    return _walk(connection, keys, (_EARLIER, _LATER))


def _walk(connection: sqlite3.Connection, keys: Sequence[RequestKey], links: Sequence[str]) -> tuple[RequestKey, ...]:
    found = list(keys)
    for key in found:  # grows on the way
        for asked in links:
            for (octets,) in connection.execute(f"{asked} LIMIT {SALE_TRIES_MAX + 1}", (key.octets,)):
                other = RequestKey(uuid.UUID(bytes=octets))
                if other not in found:
                    found.append(other)
        if len(found) > 2 * SALE_TRIES_MAX:
            break
    return tuple(found)
