"""What a twin remembers: objects, idempotency keys, its clock and what is due, in one SQLite file.

Every change is durable before it is answered, so the twin can be killed at any instruction and still be asked what was
charged. Must never hold state that a restart would lose. Time and randomness are given, so that a test may own them.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
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
CREATE TABLE IF NOT EXISTS history (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, changed_ms INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_by_time ON history (kind, changed_ms);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS due (
  position INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, what TEXT NOT NULL, subject TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS due_by_time ON due (at_ms);
"""

_ALL: Final = "SELECT body FROM objects WHERE kind = ? ORDER BY created DESC, position DESC"
_AS_OF: Final = (
    "SELECT body FROM history WHERE position IN"
    " (SELECT max(position) FROM history WHERE kind = ? AND changed_ms <= ? GROUP BY id) ORDER BY position DESC"
)
_CHILDREN: Final = "SELECT body FROM objects WHERE parent = ? AND kind = ? ORDER BY created DESC, position DESC"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAnswer:
    """The first answer that was given under a key, and a digest of what it answered."""

    digest: str
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Something that happens by itself at a time: a card is tapped, an authorisation lapses, a webhook is sent."""

    at_ms: int
    what: str
    subject: str


def machine_ms() -> int:
    """The machine's own time, Unix milliseconds."""
    return time.time_ns() // 1_000_000


class TwinStore:
    """One connection, used from one thread.

    Args:
        now_ms: the time that `move_clock` moves; a test gives its own.
        random_hex: what names are made of, a given number of bytes in hexadecimal.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_ms: Callable[[], int] = machine_ms,
        random_hex: Callable[[int], str] = secrets.token_hex,
        key_age_max_ms: int = KEY_AGE_MAX_MS,
    ) -> None:
        self._now_ms = now_ms
        self._random_hex = random_hex
        self._key_age_max_ms = key_age_max_ms
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
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def now_ms(self) -> int:
        """The twin's own time: what it was given, moved by `move_clock`."""
        return self._now_ms() + self._clock_offset_ms

    def move_clock(self, step_ms: int) -> None:
        """Step the twin's time, forwards or back; lasts over restarts."""
        self._clock_offset_ms += step_ms
        self._run("INSERT OR REPLACE INTO settings VALUES ('clock_offset_ms', ?)", (self._clock_offset_ms,))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._random_hex(12)}"

    def put(self, kind: str, body: dict[str, Any]) -> None:
        """Insert the object, or replace the one with its id."""
        created = body.get("created", self.now_ms() // 1000)
        self._run(
            "INSERT INTO objects (id, kind, parent, created, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (body["id"], kind, body.get("payment_intent", ""), created, json.dumps(body)),
        )
        self._run(
            "INSERT INTO history (id, kind, changed_ms, body) VALUES (?, ?, ?, ?)",
            (body["id"], kind, self.now_ms(), json.dumps(body)),
        )

    def get(self, kind: str, identifier: str) -> dict[str, Any] | None:
        rows = self._run("SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, identifier))
        return json.loads(rows[0][0]) if rows else None

    def newest_first(self, kind: str, *, parent: str = "") -> list[dict[str, Any]]:
        """All objects of a kind; with `parent`, those that belong to this payment."""
        rows = self._run(_CHILDREN, (parent, kind)) if parent else self._run(_ALL, (kind,))
        return [json.loads(body) for (body,) in rows]

    def as_of(self, kind: str, at_ms: int) -> list[dict[str, Any]]:
        """All objects of a kind as they stood at a time, last changed first."""
        return [json.loads(body) for (body,) in self._run(_AS_OF, (kind, at_ms))]

    def keep_note(self, name: str, body: dict[str, Any]) -> None:
        """Remember something that no API shows, such as how a simulated customer behaves."""
        self._run("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(body)))

    def note(self, name: str) -> dict[str, Any] | None:
        rows = self._run("SELECT body FROM notes WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def drop_note(self, name: str) -> None:
        self._run("DELETE FROM notes WHERE name = ?", (name,))

    def account_id(self) -> str:
        """The account whose objects lie here."""
        note = self.note("account")
        if note is None:
            note = {"id": self.new_id("acct")}
            self.keep_note("account", note)
        return str(note["id"])

    def schedule(self, due: Due) -> None:
        """Let it happen at its time: `take_due` gives it back then."""
        self._run("INSERT INTO due (at_ms, what, subject) VALUES (?, ?, ?)", (due.at_ms, due.what, due.subject))

    def take_due(self, *what: str) -> list[Due]:
        """Everything of these kinds whose time has come, oldest first; it is not given again."""
        marks = ", ".join("?" for _ in what)
        rows = self._run(
            f"DELETE FROM due WHERE at_ms <= ? AND what IN ({marks}) RETURNING at_ms, position, what, subject",  # noqa: S608 - question marks only
            (self.now_ms(), *what),
        )
        return [Due(at_ms=at_ms, what=kind, subject=subject) for at_ms, _, kind, subject in sorted(rows)]

    def saved_answer(self, key: str) -> SavedAnswer | None:
        """The answer given under `key`, unless the key is too old to be remembered."""
        rows = self._run(
            "SELECT digest, status, body FROM keys WHERE key = ? AND created_ms > ?",
            (key, self.now_ms() - self._key_age_max_ms),
        )
        if not rows:
            return None
        digest, status, body = rows[0]
        return SavedAnswer(digest=digest, status=status, body=body)

    def save_answer(self, key: str, answer: SavedAnswer) -> None:
        self._run(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)",
            (key, self.now_ms(), answer.digest, answer.status, answer.body),
        )

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self._database.execute(statement, values).fetchall()
