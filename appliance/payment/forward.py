"""Asks the banks for what was accepted offline, in the order in which each device accepted it.

* One payment of a device at a time; each try is an operation of its own, with an intent and a provider key never used.
* Only the head of each queue is read: a hundred thousand that wait cost no memory.
* Where the bank or the device cannot be reached the whole queue rests, longer each time. What is unclear, or refused
  without a bank's word, lets the next one pass: the resolver owns it, or its turn comes again.
* A bank's no is final: the goods are gone, and the loss is told (`till/`).
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.model.operation import OperationKind, OperationState
from appliance.payment.follow_up import FollowUp
from appliance.payment.guards import Unchanged, require_payment
from appliance.payment.offline_records import Lane, Waiting, lanes, next_waiting
from appliance.payment.records import StandingPayment
from appliance.payment.settled import UNREACHABLE, Settled
from appliance.ports.clock import Clock
from appliance.runtime.log import Log

IDLE_MS: Final = 1_000
_PAUSE_MS_MAX: Final = 5 * MINUTE_MS
"""Each try of a device that is away costs two entries: some six hundred a day at this pace."""


@dataclass(slots=True)
class _Standing:
    """How a device's queue goes.

    Attributes:
        after: what stands at this entry or before it was asked; what of it still waits comes again at the queue's end.
        rests_until_ms: by the monotonic clock.
    """

    after: int = -1
    pause_ms: int = 0
    rests_until_ms: int = 0


class Forwarder:
    """One service.

    Args:
        quarantine: why the log must not be trusted, if so: then nothing is forwarded.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        follow_up: FollowUp,
        clock: Clock,
        log: Log,
        jitter: random.Random,
        quarantine: Callable[[], str | None],
    ) -> None:
        self._ledger = ledger
        self._follow_up = follow_up
        self._clock = clock
        self._log = log
        self._jitter = jitter
        self._quarantine = quarantine
        self._standing: dict[Lane, _Standing] = {}

    async def run(self) -> None:
        """Forward as long as there is something to forward, then look again and again."""
        while True:
            if not await self.look():
                await self._clock.sleep(IDLE_MS)

    async def look(self) -> bool:
        """One payment of each device that does not rest; whether a bank spoke."""
        if self._quarantine() is not None:
            return False
        waiting = await self._ledger.read(lanes, purpose=Purpose.OUTCOME)
        self._standing = {lane: self._standing.get(lane, _Standing()) for lane in waiting}
        asked: dict[asyncio.Future[Settled], Lane] = {}
        for lane, standing in self._standing.items():
            if standing.rests_until_ms <= self._clock.monotonic_ms():
                future = await self._begin(lane, standing)
                if future is not None:
                    asked[future] = lane
        if not asked:
            return False
        await asyncio.wait(asked)
        heard = [self._heard(lane, future) for future, lane in asked.items()]
        return any(heard)

    async def _begin(self, lane: Lane, standing: _Standing) -> asyncio.Future[Settled] | None:
        def look(connection: sqlite3.Connection) -> tuple[Waiting, StandingPayment] | None:
            head = next_waiting(connection, lane, after=standing.after) or next_waiting(connection, lane, after=-1)
            return None if head is None else (head, require_payment(connection, head.payment))

        # In one look: what comes between it and the write, such as a withdrawal, is met by the guard.
        found = await self._ledger.read(look, purpose=Purpose.OUTCOME)
        if found is None:
            return None
        head, payment = found
        guard = Unchanged(standing=payment, fresh=None)
        try:
            future = await self._follow_up.begun(OperationKind.FORWARD, head.amount_minor, guard, asked_by=None)
        except (Rejected, Unavailable) as refusal:
            self._log.info("forward.postponed", payment=str(head.payment), code=refusal.code)
            self._rest(standing)
            return None
        standing.after = head.seq
        return future

    def _heard(self, lane: Lane, future: asyncio.Future[Settled]) -> bool:
        """Whether a bank spoke; what else there is lets the queue rest."""
        standing = self._standing[lane]
        settled = None if future.cancelled() or future.exception() is not None else future.result()
        if settled is not None and settled.state in (OperationState.CONFIRMED, OperationState.REJECTED):
            if settled.state is OperationState.REJECTED:
                self._log.warning("forward.declined", device=lane.device, code=settled.code or "")
            standing.pause_ms = 0
            return True
        if settled is None or settled.code == UNREACHABLE:
            standing.after = -1  # nothing overtakes it: the others would not get through either
        self._rest(standing)
        return False

    def _rest(self, standing: _Standing) -> None:
        standing.pause_ms = min(max(2 * standing.pause_ms, IDLE_MS), _PAUSE_MS_MAX)
        pause_ms = self._jitter.randint(standing.pause_ms // 2, standing.pause_ms)
        standing.rests_until_ms = self._clock.monotonic_ms() + pause_ms
