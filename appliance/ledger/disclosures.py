"""Disclosures: values beside the log that can be opened, and erased.

Owns sealing, opening and the `erased` entry. Must never store a value or a salt in the clear.

* Erasing a subject: an `erased` entry names its keys (durable first), then the keys are forgotten. A crash in between
  is finished at the next start. Backups, WAL and free pages hold only what those keys opened.
* While a subject is being erased nothing new is sealed for it: the new value would die with the old key.
* A person who is unknown here is not "erased": a misspelt name must not end in good news (`subjects.py`).
* Values without a person belong to the box's subject of the day: its key is made once a day, so a sale costs no extra
  fsync, and a day can be erased as a whole when its keeping time is over.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from appliance.crypto import cbor
from appliance.crypto.disclosure import SALT_SIZE, open_value, seal_value
from appliance.ledger.draft import Disclosure, Draft, RecordedEntry
from appliance.ledger.entry import ENTRY_BYTES_MAX
from appliance.ledger.group import SealedDisclosure
from appliance.ledger.subject_keys import DAY_PREFIX, KEYS_FILE, SubjectKey, SubjectKeys
from appliance.model.errors import Corrupt, Unavailable

KIND_ERASED = "erased"
CACHED_KEYS_MAX = 1_024
_DAY_MS = 86_400_000

_T = TypeVar("_T")


class DisclosureVault:
    """Seals and opens values; `keys.db` is only touched on its own thread."""

    def __init__(self, folder: Path, store_key: bytes) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-keys")
        self._keys = SubjectKeys(folder / KEYS_FILE, store_key)
        self._cached: OrderedDict[str, SubjectKey] = OrderedDict()
        self._erasing: set[str] = set()

    def seal_now(self, drafts: Sequence[Draft]) -> tuple[SealedDisclosure, ...] | None:
        """Seal with cached keys, or None when a key must be looked up first."""
        sealed: list[SealedDisclosure] = []
        for draft_index, draft in enumerate(drafts):
            for disclosure in draft.disclosures:
                key = self._cached.get(disclosure.subject or _day_subject(draft.time_ms))
                if key is None:
                    return None
                sealed.append(_seal(draft_index, disclosure, key))
        return tuple(sealed)

    async def key_id(self, subject: str) -> int:
        """The number of the subject's key, made and durable on return."""
        await self._load({subject})
        return self._cached[subject].key_id

    async def load_keys(self, drafts: Sequence[Draft]) -> None:
        """Look up or make the keys that `drafts` need; new ones are durable on return."""
        subjects = {
            disclosure.subject or _day_subject(draft.time_ms) for draft in drafts for disclosure in draft.disclosures
        }
        await self._load(subjects)

    async def _load(self, subjects: set[str]) -> None:
        self._refuse_erased_now(subjects)
        missing = sorted(subjects - self._cached.keys())
        found = await _on(self._thread, lambda: [(subject, self._keys.key_of(subject)) for subject in missing])
        # Asked again after the wait: a key that an erasure is about to forget must not come back into the cache.
        self._refuse_erased_now(subjects)
        self._cached.update(found)
        while len(self._cached) > max(CACHED_KEYS_MAX, len(subjects)):
            self._cached.popitem(last=False)

    def _refuse_erased_now(self, subjects: set[str]) -> None:
        if subjects & self._erasing:
            raise Unavailable("subject_being_erased", "the person's values are being erased; try again in a moment")

    async def key_ids(self, subject: str) -> tuple[int, ...]:
        """Numbers of the keys that a subject's values lie under; none when nothing is held."""
        return await _on(self._thread, lambda: self._keys.ids_of(subject))

    async def are_carried(self, key_ids: Sequence[int]) -> bool:
        """Whether values of an earlier log of this box lie under any of `key_ids`."""
        return await _on(self._thread, lambda: self._keys.are_carried(key_ids))

    async def begin_erasure(self, subject: str) -> tuple[int, ...]:
        """The keys of a subject, for its `erased` entry; `end_erasure` must follow."""
        if subject in self._erasing:
            raise Unavailable("subject_being_erased", "the person's values are being erased already")
        self._erasing.add(subject)
        self._cached.pop(subject, None)
        return await _on(self._thread, lambda: self._keys.ids_of(subject))

    def alias_of(self, subject: str) -> str:
        """The name of a subject that an entry may hold."""
        return self._keys.alias_of(subject)

    async def forget(self, key_ids: Sequence[int]) -> None:
        """Erase keys; the `erased` entry that names them is durable."""
        await _on(self._thread, lambda: self._keys.erase(key_ids))

    def end_erasure(self, subject: str) -> None:
        """Values may be sealed for the subject again, under a new key."""
        self._erasing.discard(subject)

    def finish_erasures(self, connection: sqlite3.Connection) -> None:
        """At start, before anything else: complete what a crash interrupted."""
        self._keys.finish_erasures(row[0] for row in connection.execute("SELECT key_id FROM erased_keys"))

    async def open(self, rows: Sequence[tuple[str, int, bytes]]) -> tuple[Disclosure, ...]:
        """Open stored rows (name, key id, ciphertext); erased ones are left out."""
        return await _on(self._thread, lambda: self.open_now(rows))

    def open_now(self, rows: Sequence[tuple[str, int, bytes]]) -> tuple[Disclosure, ...]:
        """As `open`, for rebuilding; only while no event loop uses the vault."""
        opened: list[Disclosure] = []
        for name, key_id, ciphertext in rows:
            found = self._keys.find(key_id)
            if found is not None:
                alias, key = found
                plain = open_value(key, _aad(name, key_id), ciphertext)
                opened.append(
                    Disclosure(
                        name=name,
                        salt=plain[:SALT_SIZE],
                        value=plain[SALT_SIZE:],
                        subject=None if alias.startswith(DAY_PREFIX) else alias,
                    )
                )
        return tuple(opened)

    async def check(self, rows: Sequence[tuple[int, str, int, bytes, bytes | None]]) -> None:
        """Stored rows (seq, name, key id, ciphertext, its entry) open to what their entries commit to, or are erased.

        Raises:
            Corrupt: `disclosure_unreadable`, `disclosure_foreign`: the first that does not, with its place.
        """
        await _on(self._thread, lambda: self._check_now(rows))

    def _check_now(self, rows: Sequence[tuple[int, str, int, bytes, bytes | None]]) -> None:
        for seq, name, key_id, ciphertext, entry in rows:
            try:
                opened = self.open_now([(name, key_id, ciphertext)])
            except Corrupt as damage:
                raise Corrupt(damage.code, f"value {name:.40} of entry {seq}: {damage.detail}") from damage
            if entry is None or any(disclosure.commitment not in entry for disclosure in opened):
                raise Corrupt("disclosure_foreign", f"value {name:.40} of entry {seq} is not what the entry commits to")

    def close(self) -> None:
        """Stop the thread and close the file."""
        self._thread.shutdown(wait=True)
        self._keys.close()


class ErasedKeys:
    """The ledger's own projection: which keys were erased; their rows go with them."""

    name = "erased_keys"
    schema = (
        "CREATE TABLE erased_keys (key_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, subject TEXT NOT NULL)",
        "CREATE INDEX erased_by_subject ON erased_keys (subject, seq)",
    )
    tables = ("erased_keys",)
    kinds = frozenset({KIND_ERASED})

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        """Remember the keys that each entry names and drop what they opened."""
        for entry in entries:
            alias, key_ids = _read(entry.body)
            rows = [(key_id, entry.seq, alias) for key_id in key_ids]
            connection.executemany("INSERT OR IGNORE INTO erased_keys (key_id, seq, subject) VALUES (?, ?, ?)", rows)
            connection.executemany("DELETE FROM disclosures WHERE key_id = ?", [row[:1] for row in rows])


def erased_body(alias: str, key_ids: Sequence[int]) -> bytes:
    """Body of an `erased` entry: it stays for ever, so it holds the subject's alias, which names nobody."""
    return cbor.encode({"keys": list(key_ids), "subject": alias})


def read_erased(body: bytes) -> tuple[int, ...]:
    """Key numbers of an `erased` body."""
    return _read(body)[1]


def _read(body: bytes) -> tuple[str, tuple[int, ...]]:
    match cbor.decode(body, size_max=ENTRY_BYTES_MAX):
        case {"keys": [*key_ids], "subject": str(alias)}:
            return alias, tuple([key_id for key_id in key_ids if isinstance(key_id, int)])
        case _:
            raise Corrupt("erased_malformed", "expected an `erased` body of keys and subject")


def _seal(draft_index: int, disclosure: Disclosure, key: SubjectKey) -> SealedDisclosure:
    return SealedDisclosure(
        draft_index=draft_index,
        name=disclosure.name,
        key_id=key.key_id,
        ciphertext=seal_value(key.key, _aad(disclosure.name, key.key_id), disclosure.salt + disclosure.value),
    )


def _aad(name: str, key_id: int) -> bytes:
    # seq is not known when a value is sealed; the commitment in the entry binds the value to its place.
    return b"tillstone/disclosure/v1\x00" + key_id.to_bytes(8, "big") + name.encode()


def _day_subject(time_ms: int) -> str:
    return f"{DAY_PREFIX}{time_ms // _DAY_MS}"


async def _on(thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
