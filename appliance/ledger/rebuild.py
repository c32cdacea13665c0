"""Rebuilding: projections from (entries, surviving disclosures), in one transaction.

Owns the replay; of a pruned log it begins with the snapshot. Must never change an entry. Disaster recovery, a changed
projection and the proof that tables hold nothing of their own are the same act.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.draft import Disclosure, RecordedEntry
from appliance.ledger.entry import decode
from appliance.ledger.projection import Projection, Projector, create_tables, schema_digest
from appliance.ledger.snapshot import base_of, load_snapshot
from appliance.model.errors import Corrupt, Rejected

CHUNK_ENTRIES = 1_000


def rebuild_changed(
    connection: sqlite3.Connection, projections: Sequence[Projection], vault: DisclosureVault | None
) -> tuple[str, ...]:
    """Rebuild the projections whose schema is not the one on disk; returns their names."""
    known = dict(connection.execute("SELECT name, schema_digest FROM projections"))
    changed = [projection for projection in projections if known.get(projection.name) != schema_digest(projection)]
    if changed:
        rebuild(connection, changed, vault)
    return tuple(projection.name for projection in changed)


def rebuild(connection: sqlite3.Connection, projections: Sequence[Projection], vault: DisclosureVault | None) -> None:
    """Empty the tables of `projections` and replay the log into them; all or nothing.

    Raises:
        Corrupt: as `load_snapshot`, for a pruned log; `ledger_newer`: an entry says what this release cannot read.
    """
    projector = Projector(projections)
    connection.execute("BEGIN IMMEDIATE")
    try:
        base = base_of(connection)
        for projection in projections:
            create_tables(connection, projection)
            if base is not None:
                load_snapshot(connection, base, projection)
            connection.execute(
                "INSERT OR REPLACE INTO projections (name, schema_digest) VALUES (?, ?)",
                (projection.name, schema_digest(projection)),
            )
        for chunk in _chunks(connection, vault, after=-1 if base is None else base.size - 1):
            _apply(projector, connection, chunk)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _apply(projector: Projector, connection: sqlite3.Connection, chunk: list[RecordedEntry]) -> None:
    try:
        projector.apply(connection, chunk)
    except (Rejected, ValueError) as cause:
        # A body of a known kind with members or words of a later release: what it means is not to be guessed.
        raise Corrupt(
            "ledger_newer",
            f"entries {chunk[0].seq} to {chunk[-1].seq} hold what this release cannot read: {cause}",
        ) from cause


def _chunks(
    connection: sqlite3.Connection, vault: DisclosureVault | None, *, after: int
) -> Iterator[list[RecordedEntry]]:
    while True:
        rows = connection.execute(
            "SELECT seq, entry FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", (after, CHUNK_ENTRIES)
        ).fetchall()
        if not rows:
            return
        opened = _opened(connection, vault, rows[0][0], rows[-1][0])
        yield [recorded_entry(encoded, opened.get(seq, ())) for seq, encoded in rows]
        after = rows[-1][0]


def _opened(
    connection: sqlite3.Connection, vault: DisclosureVault | None, first_seq: int, last_seq: int
) -> dict[int, tuple[Disclosure, ...]]:
    if vault is None:
        return {}
    by_seq: dict[int, list[tuple[str, int, bytes]]] = {}
    rows = connection.execute(
        "SELECT seq, name, key_id, ciphertext FROM disclosures WHERE seq BETWEEN ? AND ? ORDER BY seq, name",
        (first_seq, last_seq),
    )
    for seq, *stored in rows:
        by_seq.setdefault(seq, []).append((stored[0], stored[1], stored[2]))
    return {seq: vault.open_now(stored) for seq, stored in by_seq.items()}


def recorded_entry(encoded: bytes, disclosures: tuple[Disclosure, ...] = ()) -> RecordedEntry:
    """An entry's bytes as projections and followers read them."""
    entry = decode(encoded)
    return RecordedEntry(
        seq=entry.seq,
        time_ms=entry.time_ms,
        kind=entry.kind,
        actor=entry.actor,
        body=entry.body,
        disclosures=disclosures,
    )
