"""Opening: from a folder to a ledger that may be believed; blocking, on a thread of its own.

Owns the order of start-up. Must never skip a step: the one way to start is to recover.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.ledger.database import connect_reader, connect_writer, wal_file
from appliance.ledger.disclosures import DisclosureVault, ErasedKeys
from appliance.ledger.draft import Draft
from appliance.ledger.entry import decode
from appliance.ledger.genesis import GenesisStatement, LogId, SignedGenesis, read_body
from appliance.ledger.group import Tail
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.projection import Projection, Projector
from appliance.ledger.pruned import Pruned
from appliance.ledger.rebuild import rebuild_changed
from appliance.ledger.recover import fsync_folder, load_tail, lock_folder, rewrite_wal
from appliance.ledger.spoken import Spoken, read_log_keys
from appliance.model.errors import Corrupt, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The two entries that every log starts with; both or none become durable."""

    genesis: SignedGenesis
    created_ms: int
    first: Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Everything that start-up found out."""

    lock: int
    connection: sqlite3.Connection
    reading: sqlite3.Connection
    vault: DisclosureVault | None
    projector: Projector
    tail: Tail
    log_id: LogId
    statement: GenesisStatement
    keys: LogKeys


def with_own(projections: Sequence[Projection]) -> tuple[Projection, ...]:
    """The ledger's own projections and those of the domains."""
    return (ErasedKeys(), Spoken(), Pruned(), *projections)


def open_folder(
    folder: Path, *, projections: Sequence[Projection], store_key: bytes | None, beginning: Beginning | None
) -> Opened:
    """Recover and open.

    Raises:
        Rejected: `ledger_empty`: a new log needs a beginning.
        Unavailable: `ledger_locked`, `disk_full`.
        Corrupt: every code of `load_tail`; `genesis_mismatch`.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = lock_folder(folder)
    try:
        rewrite_wal(wal_file(folder))
        connection = connect_writer(folder)
        try:
            # The names of new files are durable before anything in them is promised.
            fsync_folder(folder)
            fsync_folder(folder.parent)
            return _open_database(folder, lock, connection, projections, store_key, beginning)
        except BaseException:
            connection.close()
            raise
    except BaseException:
        os.close(lock)
        raise


def _open_database(
    folder: Path,
    lock: int,
    connection: sqlite3.Connection,
    projections: Sequence[Projection],
    store_key: bytes | None,
    beginning: Beginning | None,
) -> Opened:
    tail = load_tail(connection)
    signed = _genesis_of(connection, tail, beginning)
    vault = None if store_key is None else DisclosureVault(folder, store_key)
    try:
        projector = Projector(with_own(projections))
        rebuild_changed(connection, projector.projections, vault)
        if vault is not None:
            vault.finish_erasures(connection)
        statement = signed.read()
        return Opened(
            lock=lock,
            connection=connection,
            reading=connect_reader(folder),
            vault=vault,
            projector=projector,
            tail=tail,
            log_id=signed.log_id,
            statement=statement,
            keys=read_log_keys(connection, LogKeys.of(signed.log_id, statement)),
        )
    except BaseException:
        if vault is not None:
            vault.close()
        raise


def _genesis_of(connection: sqlite3.Connection, tail: Tail, beginning: Beginning | None) -> SignedGenesis:
    if tail.size == 0:
        if beginning is None:
            raise Rejected("ledger_empty", "expected a log, or a genesis to begin one with")
        return beginning.genesis
    (encoded,) = connection.execute("SELECT entry FROM entries WHERE seq = 0").fetchone()
    try:
        signed = read_body(decode(encoded).body)
    except Rejected as cause:
        raise Corrupt("genesis_malformed", cause.detail) from cause
    if beginning is not None and beginning.genesis.log_id != signed.log_id:
        raise Corrupt("genesis_mismatch", "the folder holds another log than the one that was to begin")
    return signed
