"""What the log says of updates: one row about the newest, and the entries that move it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, RecordedEntry
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.model.update_state import UpdateState
from appliance.wire import update_entries
from appliance.wire.requests import Wire

WireT = TypeVar("WireT", bound=Wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownUpdate:
    """The newest update.

    Attributes:
        asked: the installer's request, 16 bytes.
        before: the version that ran when it was staged.
        resets: starts from cold until then.
        code, detail: why it fell back.
    """

    state: UpdateState = UpdateState.NONE
    since_ms: int = 0
    version: str = ""
    number: int = 0
    asked: bytes = b""
    before: str = ""
    resets: int = 0
    code: str = ""
    detail: str = ""


class UpdateProjection:
    """Keeps the newest update."""

    name: Final = "update"
    tables: Final = ("updates",)
    schema: Final = (
        "CREATE TABLE updates (one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL, since_ms INTEGER NOT NULL,"
        " version TEXT NOT NULL, number INTEGER NOT NULL, asked BLOB NOT NULL, before TEXT NOT NULL,"
        " resets INTEGER NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL)",
    )
    kinds: Final = frozenset(
        {
            update_entries.UPDATE_STAGED,
            update_entries.UPDATE_TRIED,
            update_entries.UPDATE_CONFIRMED,
            update_entries.UPDATE_FELL_BACK,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Each entry moves the row on; a staged update is a new one."""
        for entry in recorded:
            self._apply(connection, entry)

    def _apply(self, connection: sqlite3.Connection, entry: RecordedEntry) -> None:
        if entry.kind == update_entries.UPDATE_STAGED:
            staged = _body(entry, update_entries.UpdateStagedEntry)
            connection.execute(
                "INSERT OR REPLACE INTO updates VALUES (1, ?, ?, ?, ?, ?, ?, ?, '', '')",
                (
                    UpdateState.STAGED, entry.time_ms, staged.version, staged.number, staged.asked, staged.before,
                    staged.resets,
                ),
            )  # fmt: skip
            return
        state, code, detail = UpdateState.TRYING, "", ""
        if entry.kind == update_entries.UPDATE_CONFIRMED:
            state = UpdateState.CONFIRMED
        elif entry.kind == update_entries.UPDATE_FELL_BACK:
            fallen = _body(entry, update_entries.UpdateFellBackEntry)
            state, code, detail = UpdateState.FELL_BACK, fallen.code, fallen.detail
        connection.execute(
            "UPDATE updates SET state = ?, since_ms = ?, code = ?, detail = ?", (state, entry.time_ms, code, detail)
        )


def read_update(connection: sqlite3.Connection) -> KnownUpdate:
    """What the log says of the newest update."""
    row = connection.execute(
        "SELECT state, since_ms, version, number, asked, before, resets, code, detail FROM updates"
    ).fetchone()
    if row is None:
        return KnownUpdate()
    return KnownUpdate(
        state=UpdateState(row[0]), since_ms=row[1], version=row[2], number=row[3], asked=row[4], before=row[5],
        resets=row[6], code=row[7], detail=row[8],
    )  # fmt: skip


def update_draft(kind: str, body: Wire, now_ms: int, *, actor: str = "box") -> Draft:
    """An entry about an update."""
    return Draft(
        kind=kind, actor=actor, time_ms=now_ms, body=cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))
    )


def _body(entry: RecordedEntry, shape: type[WireT]) -> WireT:
    return msgspec.convert(cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX), shape)
