"""Reads of what was accepted offline: the exposure, and the queue to the banks, of which only heads are ever read."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass

from appliance.model.ids import ProviderName, RequestKey, TerminalId
from appliance.model.offline import Exposure, OfflineLimits, OfflineRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One device's queue: what it accepted is forwarded one after the other."""

    provider: ProviderName
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One payment of a queue. Attributes: `seq`, the entry that accepted it, which is its place."""

    payment: RequestKey
    amount_minor: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinOfflineLimits:
    """A guard: the intent that is written with it may be accepted offline. Raises OfflineRefused."""

    limits: OfflineLimits
    terminal: TerminalId
    amount_minor: int
    now_ms: int

    def check(self, connection: sqlite3.Connection) -> None:
        exceeded = self.limits.exceeded(
            self.amount_minor,
            terminal=exposure(connection, self.terminal),
            box=exposure(connection),
            now_ms=self.now_ms,
        )
        if exceeded is not None:
            raise OfflineRefused(exceeded)


def exposure(connection: sqlite3.Connection, terminal: TerminalId | None = None) -> Exposure:
    """What hangs on banks that were not asked: of one till, or of the box, which alone knows its oldest."""
    summed = "SELECT coalesce(sum(accepted), 0), coalesce(sum(count), 0), coalesce(sum(reserved), 0)"
    accepted, count, reserved = connection.execute(
        f"{summed} FROM offline_exposure WHERE ?1 IS NULL OR terminal = ?1", (terminal,)
    ).fetchone()
    oldest = None
    if terminal is None:
        row = connection.execute("SELECT since_ms FROM offline WHERE state <> 'open' ORDER BY seq LIMIT 1").fetchone()
        oldest = None if row is None else int(row[0])
    return Exposure(accepted_minor=accepted, accepted_count=count, reserved_minor=reserved, oldest_ms=oldest)


def accepted_minor(connection: sqlite3.Connection, payment: RequestKey) -> int:
    """How much of the payment was accepted offline and is not known yet."""
    asked = "SELECT coalesce(sum(amount), 0) FROM offline WHERE payment = ? AND state <> 'open'"
    return int(connection.execute(asked, (payment.octets,)).fetchone()[0])


def lanes(connection: sqlite3.Connection) -> tuple[Lane, ...]:
    """The devices in which something waits."""
    rows = connection.execute("SELECT DISTINCT provider, device FROM offline_exposure WHERE count > 0")
    return tuple(Lane(provider=ProviderName(provider), device=device) for provider, device in rows.fetchall())


def next_waiting(connection: sqlite3.Connection, lane: Lane, *, after: int) -> Waiting | None:
    """The oldest that waits in `lane` behind the entry `after`."""
    row = connection.execute(
        "SELECT payment, amount, seq FROM offline WHERE state = 'waiting' AND is_wanted <= is_bound"
        " AND provider = ? AND device = ? AND seq > ? ORDER BY seq LIMIT 1",
        (lane.provider, lane.device, after),
    ).fetchone()
    return (
        None if row is None else Waiting(payment=RequestKey(uuid.UUID(bytes=row[0])), amount_minor=row[1], seq=row[2])
    )
