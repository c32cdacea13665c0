"""What the box's own log says of its keys, for a trust file that lags behind: one put back, or copied from the owner.

Owns reading the log before it is opened, under its lock and behind the same recovery. Must never believe an entry: each
statement is verified against the trust file's owner, and a rotation also against the keys before it.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from appliance.ledger.database import connect_reader, database_file, wal_file
from appliance.ledger.genesis import SignedGenesis
from appliance.ledger.recover import lock_folder, rewrite_wal
from appliance.ledger.succession import ROTATION
from appliance.ledger.trust import Evidence, Trust, listening
from appliance.model.errors import Corrupt, Rejected


def with_rotations(known: Trust, genesis: SignedGenesis, folder: Path) -> Trust:
    """`known`, and the changes of keys that stand in the log in `folder`; blocking.

    Raises:
        Corrupt: `log_keys_mismatch`: the trust file lacks a rotation, and its owner did not sign the log's.
        Unavailable: `ledger_locked`, `disk_full`.
    """
    said = _said_in(folder)
    if not said:
        return known
    try:
        return known.learn(sum(said, Evidence(logs=(genesis,))))
    except Rejected as cause:
        entry = said[0].rotations[0].size
        detail = f"trust.json lacks the rotation at entry {entry}, which cannot be taken from the log: {cause.detail}"
        raise Corrupt("log_keys_mismatch", detail) from cause


def _said_in(folder: Path) -> list[Evidence]:
    said: list[Evidence] = []
    if not database_file(folder).is_file():
        return said
    lock = lock_folder(folder)
    try:
        rewrite_wal(wal_file(folder))
        with closing(connect_reader(folder)) as connection:
            rows = connection.execute("SELECT entry FROM entries WHERE kind = ? ORDER BY seq", (ROTATION,)).fetchall()
    finally:
        os.close(lock)
    for _ in listening((bytes(entry) for (entry,) in rows), said):
        pass
    return said
