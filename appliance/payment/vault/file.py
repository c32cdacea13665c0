"""`vault.db`: sealed tokens, and the wrapped data keys that they lie under. Each method is one transaction.

Owns the file. Must never see a token or a data key in the clear, and never say what a token may be used for: that is
the log's to say.

* It is no projection: what it holds cannot be made anew from the log, and must be removable from the disk, which no
  page of the ledger is. So it has a file of its own, as subject keys have: deleted rows are overwritten
  (`secure_delete`), the rollback journal is cut to nothing, and synchronous EXTRA lets no power cut bring a row back.
* A token lies under exactly one data key. A closed key takes no new token, so that it can be destroyed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.model.provider_token import TokenName

_SAFETY: Final = ("PRAGMA journal_mode = TRUNCATE", "PRAGMA synchronous = EXTRA", "PRAGMA secure_delete = ON")
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS data_keys (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL, made_ms INTEGER NOT NULL,"
    " is_closed INTEGER NOT NULL DEFAULT 0)",
    # bound: provider and purposes as they were sealed with; what they are is asked of the log, not of this.
    "CREATE TABLE IF NOT EXISTS tokens (name TEXT PRIMARY KEY, key_id INTEGER NOT NULL, bound BLOB NOT NULL,"
    " sealed BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS tokens_by_key ON tokens (key_id)",
)
_FOUND: Final = (
    "SELECT t.name, t.key_id, t.bound, t.sealed, k.wrapped FROM tokens t JOIN data_keys k ON k.id = t.key_id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedToken:
    """A token as the file has it."""

    name: TokenName
    key_id: int
    bound: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundToken:
    """The same with its data key, as the HSM wrapped it."""

    token: SealedToken
    wrapped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A data key as the file has it; `tokens` lie under it."""

    key_id: int
    wrapped: bytes
    made_ms: int
    is_closed: bool
    tokens: int


class VaultFile:
    """The open file; used by one thread at a time. Raises sqlite3.Error where the disk or the file is bad."""

    def __init__(self, file: Path) -> None:
        file.touch(mode=0o600)
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            for statement in (*_SAFETY, *_SCHEMA):
                self._connection.execute(statement)
        except sqlite3.Error:  # a damaged file is opened again with each sale: none of them may stay open
            self._connection.close()
            raise

    def put(self, token: SealedToken) -> bool:
        """Keep a token; False where its data key takes none any more."""
        return self._changed(
            "INSERT INTO tokens SELECT ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM data_keys WHERE id = ? AND NOT is_closed)",
            (token.name, token.key_id, token.bound, token.sealed, token.key_id),
        )

    def find(self, name: TokenName) -> FoundToken | None:
        """The token of this name."""
        row = self._connection.execute(f"{_FOUND} WHERE t.name = ?", (name,)).fetchone()
        return None if row is None else _found(*row)

    def tokens(self, *, after: str, limit: int) -> tuple[SealedToken, ...]:
        """The next tokens behind the name `after`."""
        rows = self._connection.execute(
            "SELECT name, key_id, bound, sealed FROM tokens WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
        )
        return tuple(
            [
                SealedToken(name=TokenName(name), key_id=key_id, bound=bound, sealed=sealed)
                for name, key_id, bound, sealed in rows
            ]
        )

    def put_all(self, tokens: Sequence[SealedToken]) -> None:
        """Keep tokens that come from another box, all or none, before their data keys."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO tokens VALUES (?, ?, ?, ?)",
            [(each.name, each.key_id, each.bound, each.sealed) for each in tokens],
        )
        self._connection.execute("COMMIT")

    def names(self) -> frozenset[TokenName]:
        """Every token that is here."""
        return frozenset(TokenName(name) for (name,) in self._connection.execute("SELECT name FROM tokens"))

    def drop(self, names: Iterable[TokenName]) -> None:
        """Forget tokens; those that are not here are fine."""
        self._connection.execute(
            "DELETE FROM tokens WHERE name IN (SELECT value FROM json_each(?))", (json.dumps(sorted(names)),)
        )

    def under_other_keys(self, key_id: int, *, after: str, limit: int) -> tuple[FoundToken, ...]:
        """The next tokens behind the name `after` that do not lie under `key_id`."""
        rows = self._connection.execute(
            f"{_FOUND} WHERE t.key_id <> ? AND t.name > ? ORDER BY t.name LIMIT ?", (key_id, after, limit)
        )
        return tuple([_found(*row) for row in rows])

    def reseal(self, moved: Sequence[tuple[SealedToken, SealedToken]]) -> None:
        """Put each token's new form in the place of the old one, all or none; one that was dropped stays so."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "UPDATE tokens SET key_id = ?, sealed = ? WHERE name = ? AND key_id = ? AND sealed = ?",
            [(new.key_id, new.sealed, old.name, old.key_id, old.sealed) for old, new in moved],
        )
        self._connection.execute("COMMIT")

    def keys(self) -> tuple[DataKey, ...]:
        """All data keys, the oldest first."""
        rows = self._connection.execute(
            "SELECT id, wrapped, made_ms, is_closed, (SELECT count(*) FROM tokens WHERE key_id = data_keys.id)"
            " FROM data_keys ORDER BY made_ms, id"
        )
        return tuple(
            [
                DataKey(key_id=key_id, wrapped=wrapped, made_ms=made_ms, is_closed=bool(is_closed), tokens=tokens)
                for key_id, wrapped, made_ms, is_closed, tokens in rows
            ]
        )

    def add_key(self, key_id: int, wrapped: bytes, made_ms: int) -> None:
        """Keep a new data key."""
        self._connection.execute(
            "INSERT INTO data_keys (id, wrapped, made_ms) VALUES (?, ?, ?)", (key_id, wrapped, made_ms)
        )

    def close_key(self, key_id: int) -> bool:
        """Let a data key take no more tokens; False while some lie under it."""
        return self._changed(
            "UPDATE data_keys SET is_closed = 1 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM tokens WHERE key_id = ?1)",
            (key_id,),
        )

    def remove_key(self, key_id: int) -> None:
        """Destroy a data key; it must be closed."""
        self._connection.execute("DELETE FROM data_keys WHERE id = ? AND is_closed", (key_id,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _changed(self, statement: str, values: tuple[object, ...]) -> bool:
        return self._connection.execute(statement, values).rowcount > 0


def _found(name: str, key_id: int, bound: bytes, sealed: bytes, wrapped: bytes) -> FoundToken:
    return FoundToken(
        token=SealedToken(name=TokenName(name), key_id=key_id, bound=bound, sealed=sealed), wrapped=wrapped
    )
