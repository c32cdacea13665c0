"""Recovery: what happens before SQLite opens, and the checks before anything is believed.

Owns the one way to start. Must never repair: what disagrees is `Corrupt` and the box asks for a person.

* A failed fsync leaves pages in the kernel's cache that look clean and were never written. SQLite would read them,
  find its commit marks, and carry on above a hole that the next power cut shows. So at every start the WAL's bytes
  are written anew: copied to a new file, fsynced, renamed over the old one, the folder fsynced. If even that fails
  the process does not start.
* `-shm` is an index of the WAL and a memory of how much of it was checkpointed; deleted, both are found out again,
  and every frame is copied into the database once more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from appliance.ledger.entry import EntryHash
from appliance.ledger.group import Tail, empty_tail
from appliance.ledger.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, frontier_from
from appliance.ledger.pruned import pruned_below
from appliance.ledger.tiles import read_tile
from appliance.ledger.verify import verify_tail
from appliance.model.errors import Corrupt, Unavailable

TAIL_ENTRIES = 4_096  # re-hashed at each start: 20 ms; all of the log is the scrub's work
_COPY_BYTES = 1 << 20


def lock_folder(folder: Path) -> int:
    """Take the ledger for this process; the descriptor holds it until closed or death.

    Raises:
        Unavailable: `ledger_locked`, another process has it.
    """
    descriptor = os.open(folder / "ledger.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        os.close(descriptor)
        raise Unavailable("ledger_locked", f"another process has the ledger in {folder.name}") from cause
    return descriptor


def rewrite_wal(wal: Path) -> None:
    """Make sure that what SQLite will read is what the disk holds; call before any connection.

    Args:
        wal: the database's file name with `-wal` behind it.

    Raises:
        Unavailable: `disk_full`, no room for the copy: nothing was changed.
        OSError: the disk fails; nothing may be believed.
    """
    copy = wal.with_name(wal.name + ".copy")
    shm = wal.with_name(wal.name.removesuffix("-wal") + "-shm")
    if wal.exists():
        try:
            _copy_durably(wal, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable("disk_full", "the disk is full; what is recorded cannot be recovered yet") from error
            raise
        # A crash before the rename leaves the old WAL and a stray copy, after it the new WAL: the same bytes.
        os.rename(copy, wal)
    shm.unlink(missing_ok=True)
    fsync_folder(wal.parent)


def fsync_folder(folder: Path) -> None:
    """Make names in a folder durable: a renamed or new file is not, until its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(file: Path, content: bytes) -> None:
    """Whole or not at all, and still there after a power cut; for its owner's eyes."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)
    fsync_folder(file.parent)


def load_tail(connection: sqlite3.Connection) -> Tail:
    """Read where the log ends and check that the database agrees with itself there.

    Entries -> chain -> head row; entries and tile roots -> right edge -> root in the head row.

    Raises:
        Corrupt: `head_missing`, `head_mismatch`, `tile_mismatch`, `tile_missing`, or a `BadEntry`.
    """
    row = connection.execute("SELECT size, entry_hash, root FROM head").fetchone()
    (last_seq,) = connection.execute("SELECT max(seq) FROM entries").fetchone()
    if row is None:
        if last_seq is not None:
            raise Corrupt("head_missing", f"expected a head row over {last_seq + 1} entries")
        return empty_tail()
    size, head_hash, head_root = row
    if last_seq != size - 1:
        raise Corrupt("head_mismatch", f"the head says {size} entries, the last one is {last_seq}")
    last_hash, ragged = _check_entries(connection, size)
    if last_hash != head_hash:
        raise Corrupt("head_mismatch", "the last entry's hash is not the one in the head row")
    frontier = frontier_from(size, _tile_roots(connection, size), ragged)
    root = frontier.root()
    if root != head_root:
        raise Corrupt("head_mismatch", "entries and tiles do not give the root in the head row")
    return Tail(size=size, entry_hash=last_hash, frontier=frontier, root=root)


def _check_entries(connection: sqlite3.Connection, size: int) -> tuple[EntryHash, list[bytes]]:
    """Walk the last entries; returns the last hash and the leaves behind the last full tile."""
    # Pruning leaves a whole tail; one that a later release finds too short is walked as far as it goes.
    first_seq = max(max(0, size - TAIL_ENTRIES) // TILE_WIDTH * TILE_WIDTH, pruned_below(connection))
    rows = connection.execute("SELECT entry FROM entries WHERE seq >= ? ORDER BY seq", (first_seq,))
    first_prev = bytes(HASH_BYTES) if first_seq == 0 else None
    end, last_hash, leaves = verify_tail((row[0] for row in rows), first_seq=first_seq, first_prev=first_prev)
    if end != size:
        raise Corrupt("head_mismatch", f"expected {size} entries, saw {end}")
    for number in range(first_seq // TILE_WIDTH, size // TILE_WIDTH):
        start = number * TILE_WIDTH - first_seq
        if b"".join(leaves[start : start + TILE_WIDTH]) != read_tile(connection, 0, number):
            raise Corrupt("tile_mismatch", f"tile {number} is not what the entries say")
    return last_hash, leaves[size // TILE_WIDTH * TILE_WIDTH - first_seq :]


def _tile_roots(connection: sqlite3.Connection, size: int) -> list[list[bytes]]:
    """For each tile level the roots of full tiles whose parent tile is still growing."""
    roots: list[list[bytes]] = []
    full = size >> TILE_HEIGHT
    while full:
        level = len(roots)
        first = full // TILE_WIDTH * TILE_WIDTH
        rows = connection.execute(
            "SELECT root FROM tiles WHERE level = ? AND number >= ? AND number < ? ORDER BY number",
            (level, first, full),
        ).fetchall()
        if len(rows) != full - first:
            raise Corrupt("tile_missing", f"expected {full - first} tiles of level {level}, saw {len(rows)}")
        roots.append([row[0] for row in rows])
        full >>= TILE_HEIGHT
    return roots


def _copy_durably(source: Path, target: Path) -> None:
    with open(source, "rb") as reading, open(target, "wb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        while chunk := reading.read(_COPY_BYTES):
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    # Equal sizes, or a short read of a failing disk would pass as a shorter log.
    if target.stat().st_size != source.stat().st_size:
        raise OSError(errno.EIO, "the WAL changed or was read short while it was copied")
