"""Subject keys: one random key per person, and the file whose rows can really be erased.

Owns `keys.db`. Must never see a value, and never let a key reach the ledger's own file or WAL: a key that was once in
a WAL, a free page or a backup is not erased by deleting its row.

* A person is found by an alias, a keyed hash: neither this file nor the log ever names one.
* Each key is wrapped under the store key that the caller hands in; the file alone opens nothing.
* A key is durable before the first value sealed with it is queued: one extra fsync per *new* subject, none per sale.
* `secure_delete` overwrites the row; the rollback journal is truncated, not kept. What flash keeps in spare blocks is
  wrapped under a store key that never touched the disk.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.crypto.disclosure import SUBJECT_KEY_SIZE, open_value, seal_value

_SCHEMA = "CREATE TABLE IF NOT EXISTS keys (id INTEGER PRIMARY KEY, subject TEXT NOT NULL, wrapped BLOB NOT NULL)"
KEYS_FILE: Final = "keys.db"
STORE_KEY_FILE: Final = "store-key.wrapped"
"""The key over the keys, as the HSM wrapped it."""
DAY_PREFIX: Final = "day:"
"""A subject that starts so is a day and nobody."""
# Keys of values that lie in an earlier log of this box: nothing in this log's tables says that they open anything.
_CARRIED = "CREATE TABLE IF NOT EXISTS carried (id INTEGER PRIMARY KEY)"
_INDEX = "CREATE INDEX IF NOT EXISTS keys_by_subject ON keys (subject)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKey:
    """The key of one subject, with the number that stored values name."""

    key_id: int
    key: bytes


class SubjectKeys:
    """The open key file; used by one thread at a time."""

    def __init__(self, file: Path, store_key: bytes) -> None:
        self._store_key = store_key
        self._alias_key = hmac.digest(store_key, b"tillstone/subject-alias/v1", "sha256")
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5.0)
        self._connection.execute("PRAGMA journal_mode = TRUNCATE")
        # EXTRA also fsyncs the folder after the journal is gone: a power cut must not bring an erased key back.
        self._connection.execute("PRAGMA synchronous = EXTRA")
        self._connection.execute("PRAGMA secure_delete = ON")
        self._connection.execute(_SCHEMA)
        self._connection.execute(_CARRIED)
        self._connection.execute(_INDEX)

    def alias_of(self, subject: str) -> str:
        """What stands for `subject` on the disk and in the log. Under a key, because names can be guessed."""
        if subject.startswith(DAY_PREFIX):
            return subject
        return hmac.digest(self._alias_key, subject.encode(), "sha256").hex()

    def key_of(self, subject: str) -> SubjectKey:
        """The subject's current key, made and fsynced if there is none."""
        alias = self.alias_of(subject)
        row = self._connection.execute(
            "SELECT id, wrapped FROM keys WHERE subject = ? ORDER BY id LIMIT 1", (alias,)
        ).fetchone()
        if row is not None:
            return SubjectKey(key_id=row[0], key=open_value(self._store_key, _wrap_aad(row[0]), row[1]))
        # Random, not counted: a restored key file must not hand out a number that old values already name.
        made = SubjectKey(key_id=secrets.randbits(62), key=secrets.token_bytes(SUBJECT_KEY_SIZE))
        wrapped = seal_value(self._store_key, _wrap_aad(made.key_id), made.key)
        self._connection.execute(
            "INSERT INTO keys (id, subject, wrapped) VALUES (?, ?, ?)", (made.key_id, alias, wrapped)
        )
        return made

    def find(self, key_id: int) -> tuple[str, bytes] | None:
        """Alias and key by number; None when the key was erased."""
        row = self._connection.execute("SELECT subject, wrapped FROM keys WHERE id = ?", (key_id,)).fetchone()
        return None if row is None else (row[0], open_value(self._store_key, _wrap_aad(key_id), row[1]))

    def ids_of(self, subject: str) -> tuple[int, ...]:
        """Numbers of every key of a subject."""
        rows = self._connection.execute("SELECT id FROM keys WHERE subject = ? ORDER BY id", (self.alias_of(subject),))
        return tuple(row[0] for row in rows)

    def carry(self) -> None:
        """A new log takes these keys over: whatever they open lies in the one before it."""
        self._connection.execute("INSERT OR IGNORE INTO carried SELECT id FROM keys")

    def are_carried(self, key_ids: Sequence[int]) -> bool:
        """Whether any of `key_ids` opens values of an earlier log."""
        found = self._connection.execute(
            "SELECT 1 FROM carried WHERE id IN (SELECT value FROM json_each(?)) LIMIT 1", (json.dumps(list(key_ids)),)
        )
        return found.fetchone() is not None

    def erase(self, key_ids: Sequence[int]) -> None:
        """Forget keys for good; those already gone are fine."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("DELETE FROM keys WHERE id = ?", [(key_id,) for key_id in key_ids])
        self._connection.execute("COMMIT")

    def finish_erasures(self, erased: Iterable[int]) -> None:
        """Erase what a crash between the `erased` entry and the deletion left."""
        present = {row[0] for row in self._connection.execute("SELECT id FROM keys")}
        left = sorted(present.intersection(erased))
        if left:
            self.erase(left)

    def take_in(self, rows: Iterable[Sequence[object]]) -> None:
        """Keep keys (id, alias, wrapped) that come from a backup, under the store key that wrapped them."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO keys (id, subject, wrapped) VALUES (?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _wrap_aad(key_id: int) -> bytes:
    return b"tillstone/subject-key/v1\x00" + key_id.to_bytes(8, "big")
