"""evidence.db: what is written is there after a crash, what is damaged costs evidence and no sale."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.anchor.store import Cursor, EvidenceStore, StoredCheckpoint, set_cursor, set_success
from appliance.model.errors import Corrupt

CHECKPOINT = StoredCheckpoint(size=7, root=b"r" * 32, note=b"note", made_ms=5)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EvidenceStore]:
    opened = await EvidenceStore.open(tmp_path)
    yield opened
    await opened.close()


async def test_a_picked_checkpoint_survives_a_restart(tmp_path: Path) -> None:
    first = await EvidenceStore.open(tmp_path)
    await first.add_checkpoint(CHECKPOINT)
    await first.close()
    second = await EvidenceStore.open(tmp_path)
    assert await second.checkpoint(7) == CHECKPOINT == await second.newest_checkpoint()
    await second.close()


async def test_the_first_note_of_a_size_stays(store: EvidenceStore) -> None:
    await store.add_checkpoint(CHECKPOINT)
    later = StoredCheckpoint(size=7, root=b"r" * 32, note=b"signed anew", made_ms=9)
    assert await store.add_checkpoint(later) == CHECKPOINT


async def test_one_size_with_two_roots_is_corrupt(store: EvidenceStore) -> None:
    await store.add_checkpoint(CHECKPOINT)
    with pytest.raises(Corrupt, match="evidence_root_differs"):
        await store.add_checkpoint(StoredCheckpoint(size=7, root=b"x" * 32, note=b"note", made_ms=5))


async def test_a_change_that_raises_leaves_nothing(store: EvidenceStore) -> None:
    def change(connection: sqlite3.Connection) -> None:
        set_cursor(connection, "witness", 5)
        raise KeyError("mistake")

    with pytest.raises(KeyError):
        await store.write(change)
    assert await store.cursor("witness") == Cursor()


async def test_a_cursor_never_moves_back(store: EvidenceStore) -> None:
    await store.write(lambda connection: set_cursor(connection, "witness", 5))
    await store.write(lambda connection: set_success(connection, "witness", 1_000))
    await store.write(lambda connection: set_cursor(connection, "witness", 3))
    assert await store.cursor("witness") == Cursor(size=5, success_ms=1_000)
    assert await store.cursor("publish") == Cursor()


async def test_evidence_needs_its_checkpoint_first(store: EvidenceStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await store.write(lambda connection: connection.execute("INSERT INTO cosignatures VALUES (9, 'w', x'00', 1)"))


async def test_every_commit_is_fsynced(store: EvidenceStore) -> None:
    def pragmas(connection: sqlite3.Connection) -> tuple[object, object]:
        return (
            connection.execute("PRAGMA journal_mode").fetchone()[0],
            connection.execute("PRAGMA synchronous").fetchone()[0],
        )

    assert await store.read(pragmas) == ("wal", 2)


async def test_a_damaged_file_is_moved_aside_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "evidence.db").write_bytes(b"no database at all" * 100)
    store = await EvidenceStore.open(tmp_path)
    assert await store.newest_checkpoint() is None
    await store.close()
    assert (tmp_path / "damaged-evidence.db").read_bytes().startswith(b"no database")


async def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "evidence.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Corrupt, match="evidence_newer"):
        await EvidenceStore.open(tmp_path)
