"""Tables of the vault, derived from entries alone: which tokens are kept, bound to what, and which data keys there are.

A token itself is in no table: `safe.py` has it. What may be used is decided here, in the writer's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.ledger.disclosures import KIND_ERASED, read_erased
from appliance.ledger.draft import RecordedEntry
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderName
from appliance.model.provider_token import TokenBinding, TokenName, TokenPurpose
from appliance.payment.entry_body import body_of
from appliance.wire import vault_entries

_FOUND: Final = "SELECT name, provider, purposes, expires, under, state, seq FROM tokens"


class TokenState(StrEnum):
    """How a token stands; it can be used while it is kept and has not expired."""

    KEPT = "kept"
    FORGOTTEN = "forgotten"
    ERASED = "erased"  # with the customer whom it was bound to


class TokenRefused(Rejected):
    """A token that this payment cannot be begun with; a request that was recorded before gets its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingToken:
    """A token as the log has it; `under` is the subject key of its customer, None where it is bound to nobody."""

    binding: TokenBinding
    expires_ms: int | None
    under: int | None
    state: TokenState
    seq: int

    def has_expired(self, now_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms


class TokenProjection:
    """Keeps the tables in step with the log, in the writer's transaction."""

    name: Final = "vault"
    tables: Final = ("tokens", "vault_keys")
    schema: Final = (
        # purposes: joined by commas. expires: Unix ms. under: number of a subject key. seq: of its newest entry.
        "CREATE TABLE tokens (name TEXT PRIMARY KEY, provider TEXT NOT NULL, purposes TEXT NOT NULL, expires INTEGER,"
        " under INTEGER, state TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE INDEX tokens_by_subject ON tokens (under) WHERE under IS NOT NULL",
        # destroyed: the entry that says so, or null.
        "CREATE TABLE vault_keys (id INTEGER PRIMARY KEY, made INTEGER NOT NULL, made_ms INTEGER NOT NULL,"
        " destroyed INTEGER)",
    )
    kinds: Final = frozenset(
        {
            vault_entries.KEPT,
            vault_entries.FORGOTTEN,
            vault_entries.KEY_MADE,
            vault_entries.KEY_DESTROYED,
            KIND_ERASED,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold `recorded` into the tables, in order."""
        for entry in recorded:
            match entry.kind:
                case vault_entries.KEPT:
                    _keep(connection, entry)
                case vault_entries.FORGOTTEN:
                    forgotten = body_of(entry, vault_entries.TokenForgottenEntry)
                    connection.execute(
                        "UPDATE tokens SET state = ?, seq = ? WHERE name = ?",
                        (TokenState.FORGOTTEN, entry.seq, forgotten.name),
                    )
                case vault_entries.KEY_MADE:
                    made = body_of(entry, vault_entries.VaultKeyMadeEntry)
                    connection.execute(
                        "INSERT INTO vault_keys VALUES (?, ?, ?, NULL)", (made.key, entry.seq, entry.time_ms)
                    )
                case vault_entries.KEY_DESTROYED:
                    destroyed = body_of(entry, vault_entries.VaultKeyDestroyedEntry)
                    connection.execute("UPDATE vault_keys SET destroyed = ? WHERE id = ?", (entry.seq, destroyed.key))
                case _:
                    connection.execute(
                        "UPDATE tokens SET state = ?, seq = ? WHERE state = ?"
                        " AND under IN (SELECT value FROM json_each(?))",
                        (TokenState.ERASED, entry.seq, TokenState.KEPT, json.dumps(read_erased(entry.body))),
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsable:
    """The token is kept and has not expired: of a payment that begins and a customer who withdraws, one comes first."""

    name: TokenName
    now_ms: int

    def check(self, connection: sqlite3.Connection) -> None:
        require_usable(require_token(connection, self.name), self.now_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKnown:
    """The subject key was not erased meanwhile: a token bound to an erased customer would outlive the erasure."""

    key_id: int

    def check(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT 1 FROM erased_keys WHERE key_id = ?", (self.key_id,)).fetchone() is not None:
            raise Rejected("subject_erased_meanwhile", "the customer was erased in this moment; ask again")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStands:
    """The data key was made and not destroyed: its end is told once."""

    key_id: int

    def check(self, connection: sqlite3.Connection) -> None:
        if not connection.execute(
            "SELECT 1 FROM vault_keys WHERE id = ? AND destroyed IS NULL", (self.key_id,)
        ).fetchone():
            raise Rejected("vault_key_gone", "the data key was destroyed before")


def find_token(connection: sqlite3.Connection, name: TokenName) -> StandingToken | None:
    """How the token stands, if it was ever kept."""
    row = connection.execute(f"{_FOUND} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _standing(*row)


def require_token(connection: sqlite3.Connection, name: TokenName) -> StandingToken:
    """How the token stands. Raises TokenRefused `token_unknown`."""
    standing = find_token(connection, name)
    if standing is None:
        raise TokenRefused("token_unknown", "this box keeps no token of this name")
    return standing


def require_usable(standing: StandingToken, now_ms: int) -> None:
    """Raises TokenRefused: `token_forgotten`, `token_erased`, `token_expired`."""
    name = standing.binding.name
    if standing.state is TokenState.FORGOTTEN:
        raise TokenRefused("token_forgotten", f"{name} was forgotten by entry {standing.seq}; take another tender")
    if standing.state is TokenState.ERASED:
        raise TokenRefused("token_erased", f"{name} went with its customer's data; take another tender")
    if standing.has_expired(now_ms):
        raise TokenRefused("token_expired", f"{name} was good until {standing.expires_ms}, now it is {now_ms}")


def all_tokens(connection: sqlite3.Connection, *, after: str, limit: int) -> tuple[StandingToken, ...]:
    """The next tokens behind the name `after` that are kept, by name."""
    rows = connection.execute(
        f"{_FOUND} WHERE state = ? AND name > ? ORDER BY name LIMIT ?", (TokenState.KEPT, after, limit)
    )
    return tuple([_standing(*row) for row in rows.fetchall()])


def kept_among(connection: sqlite3.Connection, names: Sequence[TokenName]) -> frozenset[TokenName]:
    """Those of `names` that the log says are kept."""
    rows = connection.execute(
        "SELECT name FROM tokens WHERE state = ? AND name IN (SELECT value FROM json_each(?))",
        (TokenState.KEPT, json.dumps(names)),
    )
    return frozenset(TokenName(name) for (name,) in rows.fetchall())


def kept_count(connection: sqlite3.Connection) -> int:
    """How many tokens are kept."""
    (count,) = connection.execute("SELECT count(*) FROM tokens WHERE state = ?", (TokenState.KEPT,)).fetchone()
    return int(count)


def standing_keys(connection: sqlite3.Connection) -> tuple[tuple[int, int], ...]:
    """Data keys that were not destroyed: number, and when the log says they were made (Unix ms); the newest last."""
    rows = connection.execute("SELECT id, made_ms FROM vault_keys WHERE destroyed IS NULL ORDER BY made")
    return tuple([(int(key_id), int(made_ms)) for key_id, made_ms in rows.fetchall()])


def _keep(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, vault_entries.TokenKeptEntry)
    connection.execute(
        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)",
        (body.name, body.provider, ",".join(body.purposes), body.expires, body.under, TokenState.KEPT, entry.seq),
    )


def _standing(
    name: str, provider: str, purposes: str, expires: int | None, under: int | None, state: str, seq: int
) -> StandingToken:
    return StandingToken(
        binding=TokenBinding(
            name=TokenName(name),
            provider=ProviderName(provider),
            purposes=tuple(TokenPurpose(purpose) for purpose in purposes.split(",")),
        ),
        expires_ms=expires,
        under=under,
        state=TokenState(state),
        seq=seq,
    )
