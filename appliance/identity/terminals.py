"""Which public keys speak for which terminals: pinned by entries of the log, never by name or address."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor, signature
from appliance.ledger.draft import Draft, Purpose, RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import KeyId, TerminalId
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.ports.clock import Clock
from appliance.wire import entries
from appliance.wire.requests import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """One paired terminal."""

    terminal_id: TerminalId
    key_id: KeyId
    public_key: bytes
    is_revoked: bool


class TerminalProjection:
    """The table of terminals. A name that is paired anew gets the new key; its old key is revoked by that."""

    name: Final = "terminal"
    tables: Final = ("terminals",)
    schema: Final = (
        "CREATE TABLE terminals (key_id BLOB PRIMARY KEY, terminal TEXT NOT NULL, public_key BLOB NOT NULL,"
        " is_revoked INTEGER NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
    )
    kinds: Final = frozenset({entries.TERMINAL_PAIRED, entries.TERMINAL_REVOKED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold pairings and revocations into the table."""
        for entry in recorded:
            body = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
            if entry.kind == entries.TERMINAL_PAIRED:
                paired = msgspec.convert(body, entries.TerminalPairedEntry)
                connection.execute("UPDATE terminals SET is_revoked = 1 WHERE terminal = ?", (paired.terminal,))
                connection.execute(
                    "INSERT OR REPLACE INTO terminals VALUES (?, ?, ?, 0, ?)",
                    (signature.key_id(paired.public_key), paired.terminal, paired.public_key, entry.seq),
                )
            else:
                revoked = msgspec.convert(body, entries.TerminalRevokedEntry)
                connection.execute("UPDATE terminals SET is_revoked = 1 WHERE terminal = ?", (revoked.terminal,))


class Terminals:
    """All terminals in memory, as the table has them; asked once per request."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._by_key: dict[KeyId, Terminal] = {}
        self._watchers: list[Callable[[], None]] = []

    async def load(self) -> None:
        """Read the table; call it after recovery and after each change."""
        rows = await self._ledger.read(
            lambda connection: connection.execute(
                "SELECT key_id, terminal, public_key, is_revoked FROM terminals"
            ).fetchall()
        )
        self._by_key = {
            KeyId(key_id): Terminal(
                terminal_id=TerminalId(terminal),
                key_id=KeyId(key_id),
                public_key=public_key,
                is_revoked=bool(is_revoked),
            )
            for key_id, terminal, public_key, is_revoked in rows
        }

    def by_key(self, key_id: KeyId) -> Terminal:
        """The terminal that this key speaks for.

        Raises:
            Rejected: `terminal_unknown` or `terminal_revoked`.
        """
        terminal = self._by_key.get(key_id)
        if terminal is None:
            raise Rejected("terminal_unknown", "no terminal is paired with the key that signed; pair it again")
        if terminal.is_revoked:
            raise Rejected("terminal_revoked", "this terminal's key was revoked; pair it again")
        return terminal

    def is_paired(self, key_id: KeyId) -> bool:
        """True while this key may speak."""
        terminal = self._by_key.get(key_id)
        return terminal is not None and not terminal.is_revoked

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each pairing and revocation: what was allowed before may not be allowed now."""
        self._watchers.append(changed)

    @property
    def all(self) -> tuple[Terminal, ...]:
        """Every key ever paired."""
        return tuple(self._by_key.values())

    async def pair(self, terminal: TerminalId, public_key: bytes) -> int:
        """Let this public key (SPKI DER, P-256) speak as `terminal`; returns the entry's seq."""
        return await self._change(
            entries.TERMINAL_PAIRED, entries.TerminalPairedEntry(terminal=terminal, public_key=public_key)
        )

    async def revoke(self, terminal: TerminalId, reason: str) -> int:
        """Accept nothing more that this terminal's keys sign; returns the entry's seq.

        Raises:
            Rejected: `terminal_unknown`: no such terminal has a key that is not revoked.
        """
        if not any(each.terminal_id == terminal and not each.is_revoked for each in self.all):
            raise Rejected("terminal_unknown", f"no terminal named {terminal} is paired")
        return await self._change(
            entries.TERMINAL_REVOKED, entries.TerminalRevokedEntry(terminal=terminal, reason=reason)
        )

    async def _change(self, kind: str, body: Wire) -> int:
        encoded = cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))
        draft = Draft(kind=kind, actor="box", time_ms=self._clock.now_ms(), body=encoded)
        (entry,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        await self.load()
        for changed in self._watchers:
            changed()
        return entry.seq
