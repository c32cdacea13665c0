"""Who may read entries: bearer tokens that an operator hands out, shown once, kept as hashes, each with an end.

Owns the credentials. Must never hold or log a token: an entry and the table have its SHA-256, and a token is 256 random
bits, so that its hash tells nothing and needs no salt.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose, RecordedEntry
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.limits import DAY_MS, ENTRY_BYTES_MAX
from appliance.ports.clock import Clock
from appliance.wire import entries
from appliance.wire.requests import Wire

DAYS_MAX: Final = 366
AUDITORS_MAX: Final = 1_000
_TOKEN_BYTES: Final = 32
_BEARER: Final = re.compile(r"\A[Bb]earer (tsa_[A-Za-z0-9_-]{43})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditor:
    """One credential: `credential` is its name in the log, the first 16 digits of its token's hash."""

    credential: str
    name: str
    token_sha256: bytes
    expires_ms: int
    is_revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A new credential; `token` is shown to the operator now and never again."""

    token: str
    credential: str
    expires_ms: int
    seq: int


class AuditorProjection:
    """The table of credentials."""

    name: Final = "auditor"
    tables: Final = ("auditors",)
    schema: Final = (
        "CREATE TABLE auditors (credential TEXT PRIMARY KEY, name TEXT NOT NULL, token BLOB NOT NULL,"
        " expires_ms INTEGER NOT NULL, is_revoked INTEGER NOT NULL) WITHOUT ROWID",
    )
    kinds: Final = frozenset({entries.AUDITOR_ADMITTED, entries.AUDITOR_REVOKED})

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold admissions and revocations into the table."""
        for entry in recorded:
            body = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
            if entry.kind == entries.AUDITOR_ADMITTED:
                admitted = msgspec.convert(body, entries.AuditorAdmittedEntry)
                connection.execute(
                    "INSERT INTO auditors VALUES (?, ?, ?, ?, 0)",
                    (admitted.credential, admitted.auditor, admitted.token, admitted.expires_ms),
                )
            else:
                revoked = msgspec.convert(body, entries.AuditorRevokedEntry)
                connection.execute("UPDATE auditors SET is_revoked = 1 WHERE credential = ?", (revoked.credential,))


class Auditors:
    """All credentials in memory, as the table has them; asked once per request."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._by_token: dict[bytes, Auditor] = {}

    async def load(self) -> None:
        """Read the table; call it after recovery and after each change."""
        rows = await self._ledger.read(
            lambda connection: connection.execute(
                "SELECT token, credential, name, expires_ms, is_revoked FROM auditors"
            ).fetchall()
        )
        self._by_token = {
            token: Auditor(
                credential=credential,
                name=name,
                token_sha256=token,
                expires_ms=expires_ms,
                is_revoked=bool(is_revoked),
            )
            for token, credential, name, expires_ms, is_revoked in rows
        }

    @property
    def all(self) -> tuple[Auditor, ...]:
        """Every credential ever made."""
        return tuple(self._by_token.values())

    def authenticate(self, authorization: str) -> Auditor:
        """The auditor whose token the `Authorization` header carries.

        Raises:
            Rejected: `auditor_unknown`, `auditor_expired`, `auditor_revoked`.
        """
        found = _BEARER.match(authorization)
        # Looked up by hash: what an attacker learns from the time this takes is about a hash, not about a token.
        auditor = None if found is None else self._by_token.get(hashlib.sha256(found[1].encode()).digest())
        if auditor is None:
            raise Rejected("auditor_unknown", "entries are for auditors: send the bearer token that an operator made")
        if auditor.is_revoked:
            raise Rejected("auditor_revoked", f"the credential {auditor.credential} was revoked")
        if self._clock.now_ms() >= auditor.expires_ms:
            raise Rejected("auditor_expired", f"the credential {auditor.credential} has expired; ask for a new one")
        return auditor

    async def admit(self, name: str, days: int) -> Admitted:
        """Make a credential for `name` that ends after `days`.

        Raises:
            Rejected: `auditor_name_invalid`, `auditor_days_invalid`, `too_many_auditors`.
        """
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise Rejected("auditor_name_invalid", "an auditor's name is 1 to 64 printable characters")
        if not 1 <= days <= DAYS_MAX:
            raise Rejected("auditor_days_invalid", f"expected 1 to {DAYS_MAX} days, saw {days}")
        if len(self._by_token) >= AUDITORS_MAX:
            raise Rejected("too_many_auditors", f"expected at most {AUDITORS_MAX} credentials")
        token = "tsa_" + base64.urlsafe_b64encode(os.urandom(_TOKEN_BYTES)).decode().rstrip("=")
        digest = hashlib.sha256(token.encode()).digest()
        credential, expires_ms = digest.hex()[:16], self._clock.now_ms() + days * DAY_MS
        body = entries.AuditorAdmittedEntry(token=digest, auditor=name, credential=credential, expires_ms=expires_ms)
        seq = await self._change(entries.AUDITOR_ADMITTED, body)
        return Admitted(token=token, credential=credential, expires_ms=expires_ms, seq=seq)

    async def revoke(self, credential: str, reason: str) -> int:
        """End a credential at once; returns the entry's seq. Raises Rejected `auditor_unknown`, `auditor_revoked`."""
        found = next((each for each in self.all if each.credential == credential), None)
        if found is None:
            raise Rejected("auditor_unknown", f"expected a credential that was admitted, saw {credential[:32]}")
        if found.is_revoked:
            raise Rejected("auditor_revoked", f"the credential {credential} was revoked before")
        return await self._change(
            entries.AUDITOR_REVOKED, entries.AuditorRevokedEntry(reason=reason, credential=credential)
        )

    async def _change(self, kind: str, body: Wire) -> int:
        encoded = cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))
        draft = Draft(kind=kind, actor="box", time_ms=self._clock.now_ms(), body=encoded)
        (entry,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        await self.load()
        return entry.seq
