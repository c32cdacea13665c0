"""What the Stripe twin remembers: objects, idempotency keys and its clock, in one SQLite file.

Every change is durable before it is answered, so the twin can be killed at any instruction and still be asked what was
charged. Must never hold state that a restart would lose.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

KEY_AGE_MAX_MS: Final = 24 * 3_600_000
"""docs.stripe.com/api/idempotent_requests: keys may be removed when 24 hours old; the twin does."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, parent TEXT NOT NULL,
  created INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_parent ON objects (parent);
CREATE TABLE IF NOT EXISTS keys (
  key TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, digest TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

_ALL: Final = "SELECT body FROM objects WHERE kind = ? ORDER BY created DESC, position DESC"
_CHILDREN: Final = "SELECT body FROM objects WHERE parent = ? AND kind = ? ORDER BY created DESC, position DESC"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAnswer:
    """The first answer that was given under a key, and a digest of what it answered."""

    digest: str
    status: int
    body: str


class TwinStore:
    """One connection, used from one thread."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)
        row = self._database.execute("SELECT value FROM settings WHERE name = 'clock_offset_ms'").fetchone()
        self._clock_offset_ms: int = row[0] if row else 0

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Objects and the key they were made under become durable together, or not at all."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def now_ms(self) -> int:
        """The twin's own time: the machine's, moved by `move_clock`."""
        return time.time_ns() // 1_000_000 + self._clock_offset_ms

    def move_clock(self, step_ms: int) -> None:
        """Step the twin's time, forwards or back; lasts over restarts."""
        self._clock_offset_ms += step_ms
        self._database.execute(
            "INSERT OR REPLACE INTO settings VALUES ('clock_offset_ms', ?)", (self._clock_offset_ms,)
        )

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_hex(12)}"

    def put(self, kind: str, body: dict[str, Any]) -> None:
        """Insert the object, or replace the one with its id."""
        self._database.execute(
            "INSERT INTO objects (id, kind, parent, created, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (body["id"], kind, body.get("payment_intent", ""), body["created"], json.dumps(body)),
        )

    def get(self, kind: str, identifier: str) -> dict[str, Any] | None:
        row = self._database.execute(
            "SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, identifier)
        ).fetchone()
        return json.loads(row[0]) if row else None

    def newest_first(self, kind: str, *, parent: str = "") -> list[dict[str, Any]]:
        """All objects of a kind; with `parent`, those that belong to this payment."""
        rows = self._database.execute(_CHILDREN, (parent, kind)) if parent else self._database.execute(_ALL, (kind,))
        return [json.loads(body) for (body,) in rows]

    def saved_answer(self, key: str) -> SavedAnswer | None:
        """The answer given under `key`, unless the key is too old to be remembered."""
        row = self._database.execute(
            "SELECT digest, status, body FROM keys WHERE key = ? AND created_ms > ?",
            (key, self.now_ms() - KEY_AGE_MAX_MS),
        ).fetchone()
        return SavedAnswer(digest=row[0], status=row[1], body=row[2]) if row else None

    def save_answer(self, key: str, answer: SavedAnswer) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)",
            (key, self.now_ms(), answer.digest, answer.status, answer.body),
        )
