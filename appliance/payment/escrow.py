"""Escrow: parcels of the payments whose money is not certain yet, for terminals to keep in case the box is lost.

Rules:
- A parcel holds each waiting payment's entries with proofs, and the end of the log; never a person's name, nor a token.
- The log commits to what a parcel lists before any terminal gets it: one entry for each new parcel.
- All terminals get the same parcel. A new one is made when another payment waits or one waits no longer, when another
  provider's account becomes known, and once a minute while the log grows.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.crypto.hpke import Recipient
from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.parcel import Manifest, Waiting, seal_parcel
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import MINUTE_MS, SIGNATURE_WAIT_MS
from appliance.payment.history import telling_seqs
from appliance.ports.clock import Clock
from appliance.wire import escrow_entries
from appliance.wire.answers import EscrowAnswer
from appliance.wire.requests import EscrowBody

ENTRIES_MAX: Final = 256
"""Of waiting payments in one parcel, each with its proofs: some 600 kB. What has no room is counted."""
PAYMENT_ENTRIES_MAX: Final = 32
"""Of one payment; forwards that never arrived are left out, so hardly any has a third of it."""
TAIL_ENTRIES_MAX: Final = 128
TAIL_BYTES_MAX: Final = 128 << 10
_WAITING_MAX: Final = 4_096
WAITING: Final = "SELECT key FROM payments WHERE state IN ('being_checked', 'accepted_offline') ORDER BY first LIMIT ?"
"""Each terminal asks once a minute: an index has what waits, however much was sold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """The newest parcel; `asked_size` is the log's size just behind its entry."""

    parcel: bytes
    manifest: Manifest
    accounts: dict[str, str]
    size: int
    asked_size: int
    made_ms: int


class Escrow:
    """The verb `escrow`.

    Args:
        recipient: the recovery key; None where the settings name none.
        accounts: whose account this box asks, by provider, as far as it is known.
    """

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        ledger: Ledger,
        recipient: Recipient | None,
        accounts: Callable[[], dict[str, str]],
        clock: Clock,
    ) -> None:
        self._authenticate = authenticate
        self._ledger = ledger
        self._recipient = recipient
        self._accounts = accounts
        self._clock = clock
        self._made: _Made | None = None
        self._turn = asyncio.Lock()  # of two terminals that ask at once, one makes the parcel for both

    async def give(self, signed: SignedRequest) -> EscrowAnswer:
        """The newest parcel, where the terminal has an older one.

        Raises:
            Rejected: `escrow_not_set_up`.
            Unavailable: `signing_down`: a parcel that nothing proves helps nobody.
        """
        request = await self._authenticate(signed, EscrowBody)
        if self._recipient is None:
            raise Rejected("escrow_not_set_up", "the settings name no recovery recipient; terminals keep nothing")
        async with self._turn:
            made = await self._current(self._recipient)
        return EscrowAnswer(
            key=str(request.identity.key),
            size=made.size,
            waiting=len(made.manifest.waiting) + made.manifest.left_out,
            parcel=None if request.body.size == made.size else made.parcel,
            now_ms=self._clock.now_ms(),
        )

    async def _current(self, recipient: Recipient) -> _Made:
        manifest = await self._ledger.read(self._list)
        made, now_ms = self._made, self._clock.now_ms()
        accounts = self._accounts()
        if made is not None and (made.manifest, made.accounts) == (manifest, accounts):
            is_old = abs(now_ms - made.made_ms) >= MINUTE_MS
            if not is_old or self._ledger.head.size == made.asked_size:
                return made
        self._made = await self._make(recipient, manifest, accounts, now_ms)
        return self._made

    async def _make(self, recipient: Recipient, manifest: Manifest, accounts: dict[str, str], now_ms: int) -> _Made:
        if await self._ledger.receipts((self._ledger.head.size - 1,), SIGNATURE_WAIT_MS) is None:
            raise _unsigned()  # before an entry says that there is a parcel
        body = escrow_entries.EscrowedEntry(
            digest=manifest.digest,
            waiting=len(manifest.waiting),
            left_out=manifest.left_out,
            accounts=accounts,
        )
        draft = Draft(
            kind=escrow_entries.ESCROWED,
            actor="box",
            time_ms=now_ms,
            body=cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=(bytes,))),
        )
        (recorded,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        seqs = sorted({seq for each in manifest.waiting for seq in each.seqs})
        proven = await self._ledger.receipts([*seqs, recorded.seq], SIGNATURE_WAIT_MS)
        if proven is None:
            raise _unsigned()
        tail = await self._ledger.read(lambda connection: _tail(connection, recorded.seq))
        return _Made(
            parcel=seal_parcel(recipient, manifest, proven, tail, now_ms),
            manifest=manifest,
            accounts=accounts,
            size=proven.head.size,
            asked_size=recorded.seq + 1,
            made_ms=now_ms,
        )

    def _list(self, connection: sqlite3.Connection) -> Manifest:
        """Payments that wait, the oldest first, as many as have room."""
        rows = connection.execute(WAITING, (_WAITING_MAX,)).fetchall()
        waiting: list[Waiting] = []
        room = ENTRIES_MAX
        for (key,) in rows:
            seqs = telling_seqs(connection, key)
            if len(seqs) > PAYMENT_ENTRIES_MAX:
                continue  # it must not keep the others out
            if len(seqs) > room:
                break
            room -= len(seqs)
            waiting.append(Waiting(payment=key, seqs=seqs))
        origin = self._ledger.statement.origin
        return Manifest(origin=origin, waiting=tuple(waiting), left_out=len(rows) - len(waiting))


def _unsigned() -> Unavailable:
    return Unavailable("signing_down", "no head could be signed in time, so the parcel would prove nothing")


def _tail(connection: sqlite3.Connection, last: int) -> tuple[bytes, ...]:
    """The end of the log up to the entry `last`, as it lies there."""
    rows = connection.execute(
        "SELECT entry FROM entries WHERE seq <= ? ORDER BY seq DESC LIMIT ?", (last, TAIL_ENTRIES_MAX)
    ).fetchall()
    tail: list[bytes] = []
    size = 0
    for (entry,) in rows:
        size += len(entry)
        if tail and size > TAIL_BYTES_MAX:
            break
        tail.append(entry)
    return tuple(reversed(tail))
