"""Finds out what became of operations whose answer was lost, by reading only, and finishes what was promised.

    found                      record what the provider has
    absent, proven             what begins a payment is closed: nothing was charged; a forward waits for its turn again
                               anything else starts anew under a new provider key, until it is confirmed
    anything else              ask again later

Absence is proven by two complete listings whose provider times lie at least `settle_ms` apart, the first of them begun
after the request can no longer be on its way. Where a listing has to begin is not believed of the box's clock either:
before a charge that was intended earlier, on the provider's clock.

Everything that is open has its turn, however many wait for ever: a round looks at `BATCH` of them, the next at those
behind. A look that fails in a way that nobody thought of ends the round; after the restart what it looked at rests, and
the others have their turn. Of a provider that hangs one operation is looked at in a round. Reversals asked for while
their payment was open start here too, and so does giving up what a card's bank holds when the time to capture it has
passed.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId, ProviderName, RequestKey
from appliance.model.limits import DAY_MS, HOUR_MS, PROVIDER_DEADLINE_MS
from appliance.model.operation import SALES, OperationKind, OperationState
from appliance.payment.contradictions import Contradictions
from appliance.payment.drafts import follow_up_draft, outcome_draft
from appliance.payment.follow_up import operation_on
from appliance.payment.give_back import GiveBack
from appliance.payment.guards import OperationOpen, Unchanged, require_payment
from appliance.payment.operate import Operations
from appliance.payment.operation_records import OpenOperation, charge_before, open_operations, operation_count
from appliance.payment.records import StandingPayment, entry_hash_at, first_entry_ms, held_until, reversals_due
from appliance.payment.settled import Settled, settle
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.runtime.log import Log

_T = TypeVar("_T")
BATCH: Final = 256
_EXPIRIES_MAX: Final = 16  # each is a question to the provider, and others wait for the round to end
_IDLE_MS: Final = 1_000
_PAUSE_MS_MAX: Final = 60_000
_FAILED_MS: Final = 2 * _PAUSE_MS_MAX
"""Longer than a service that crashed rests: else it would crash again before others have their turn."""
_WARN_BEFORE_MS: Final = 6 * HOUR_MS
_MARGIN_MS: Final = DAY_MS
"""How far before the intent, and before an earlier charge, a listing starts: charges may overtake one another."""


@dataclass(slots=True)
class _Looked:
    """How often and since when one operation is looked at; the box's monotonic clock, but for two.

    Attributes:
        absent_since_ms: the provider's clock, when it had nothing for the first time that counts.
        since_ms: from when on listings are read.
        first_ms: when a listing had nothing for the first time.
    """

    next_look_ms: int = 0
    pause_ms: int = _IDLE_MS // 2
    first_ms: int | None = None
    absent_since_ms: int | None = None
    since_ms: int | None = None


@dataclass(slots=True)
class _Turn:
    """Where a turn through all that is open stands. Attributes: `after`, the last one that was seen, if more follow."""

    after: OpenOperation | None = None
    seen: dict[OperationId, ProviderName] = field(default_factory=dict)


class Resolver:
    """One service; it owns every operation that nobody is asking about right now.

    Attributes:
        strangers: how many operations wait at a provider that the settings no longer name.
        contradictions: money that came after its payment was closed.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        operations: Operations,
        give_back: GiveBack,
        clock: Clock,
        log: Log,
        settle_ms: int,
        jitter: random.Random,
    ) -> None:
        self._ledger = ledger
        self._operations = operations
        self._give_back = give_back
        self._clock = clock
        self._log = log
        self._settle_ms = settle_ms
        self._jitter = jitter
        self._open: dict[OperationId, _Looked] = {}
        self._turn = _Turn()
        self._warned: frozenset[RequestKey] = frozenset()
        self._expiry_rests_until_ms = 0
        self.strangers: dict[ProviderName, int] = {}
        self.contradictions = Contradictions(ledger=ledger, operations=operations, clock=clock, log=log)

    async def run(self) -> None:
        """Look again and again; the first look comes at once, because a start is a recovery."""
        while True:
            await self.look()
            await self._clock.sleep(_IDLE_MS)

    async def look(self) -> None:
        """One round over reversals that are due and operations that are open."""
        for standing in await self._read(_due):
            await self._take_back(standing)
        await self._expire()
        await self._warn()
        await self.contradictions.look_back()
        after = self._turn.after
        waiting = await self._read(lambda connection: open_operations(connection, BATCH, after=after))
        self._turn.after = waiting[-1] if len(waiting) == BATCH else None
        self._turn.seen.update((each.operation.operation_id, each.operation.provider) for each in waiting)
        if self._turn.after is None:
            self._end_turn()
        hangs = set[ProviderName]()
        for each in waiting:
            looked = self._open.setdefault(each.operation.operation_id, _Looked())
            is_running = self._operations.is_running(each.operation.operation_id)
            is_due = looked.next_look_ms <= self._clock.monotonic_ms()
            if is_due and not is_running and each.operation.provider not in hangs:
                looked.next_look_ms = self._clock.monotonic_ms() + _FAILED_MS
                found = await self._resolve(each, looked)
                if isinstance(found, port.Unknown) and found.has_hung:
                    hangs.add(each.operation.provider)

    def _end_turn(self) -> None:
        """All that is open was seen: forget what is not, and say who is asked whom the settings do not name."""
        seen, self._turn = self._turn.seen, _Turn()
        asked = Counter(seen.values())
        self.strangers = {name: count for name, count in asked.items() if name not in self._operations.providers}
        for name in self._open.keys() - seen.keys():
            del self._open[name]

    def hurry(self, operation_id: OperationId) -> None:
        """Look at this one in the next round, however long it was going to rest."""
        looked = self._open.get(operation_id)
        if looked is not None:
            looked.next_look_ms = 0

    async def _resolve(self, waiting: OpenOperation, looked: _Looked) -> port.Found | port.Absent | port.Unknown:
        """Look at one operation, and write down what became of it; what the provider said."""
        operation = waiting.operation
        found: port.Found | port.Absent | port.Unknown
        since_ms = await self._listed_since(waiting, looked)
        if isinstance(since_ms, port.Unknown):
            found = since_ms
        else:
            found = await self._operations.find(operation, since_ms=since_ms, known=waiting.known)
        match found:
            case port.Found():
                await self._close(waiting, settle(operation, found.answer))
            case port.Absent() if self._is_proven(waiting, found):
                await self._close_absent(waiting)
            case port.Absent() | port.Unknown():
                self._wait(operation.operation_id, found)
        return found

    async def _listed_since(self, waiting: OpenOperation, looked: _Looked) -> int | port.Unknown:
        """From when on a listing holds what `waiting` began, also where the clock was days ahead at its intent.

        What was charged before it bears the provider's own time. A log that never charged a card begins with itself.
        """
        operation = waiting.operation
        if looked.since_ms is not None:
            return looked.since_ms
        if operation.kind not in SALES or waiting.known is not None:
            return operation.prepared_ms  # nothing is listed by time: it is looked for on its payment, or by its name
        earlier = await self._read(lambda connection: charge_before(connection, operation.provider, waiting.intent_seq))
        if earlier is None:
            earlier_ms = await self._read(first_entry_ms)
        else:
            found = await self._operations.find(earlier.operation, since_ms=0, known=earlier.known)
            if not isinstance(found, port.Found) or isinstance(found.answer, port.Declined | port.AcceptedOffline):
                return found if isinstance(found, port.Unknown) else port.Unknown(reason="reference_differs")
            earlier_ms = found.answer.confirmed_ms
        looked.since_ms = min(operation.prepared_ms, earlier_ms) - _MARGIN_MS
        return looked.since_ms

    def _is_proven(self, waiting: OpenOperation, listing: port.Absent) -> bool:
        looked = self._open[waiting.operation.operation_id]
        if looked.absent_since_ms is None:
            # The request itself may still be travelling for as long as its own deadline; nobody has sent it since we
            # first looked. Wall time does not tell: a clock that was stepped since the intent says that the time is
            # over, or lets us wait for hours.
            now_ms = self._clock.monotonic_ms()
            if looked.first_ms is None:
                looked.first_ms = now_ms
            if now_ms - looked.first_ms >= min(PROVIDER_DEADLINE_MS, self._settle_ms):
                looked.absent_since_ms = listing.as_of_ms
            return False
        return listing.as_of_ms - looked.absent_since_ms >= self._settle_ms

    async def _close(self, waiting: OpenOperation, settled: Settled) -> None:
        await self._operations.record(waiting.operation, settled, await self._intent_hash(waiting))

    async def _close_absent(self, waiting: OpenOperation) -> None:
        operation = waiting.operation
        if operation.kind in SALES:
            await self._close(waiting, Settled(state=OperationState.ABSENT, reference=None, code="never_charged"))
            return
        if operation.kind is OperationKind.FORWARD:
            # Back to its place in the queue: `forward.py` begins it anew, in order.
            await self._close(waiting, Settled(state=OperationState.ABSENT, reference=None, code="never_arrived"))
            return
        payment = operation.payment_key
        ordinal = await self._read(lambda connection: operation_count(connection, payment))
        now_ms = self._clock.now_ms()
        again = operation.again(ordinal, now_ms)
        absent = outcome_draft(
            operation,
            OperationState.ABSENT,
            await self._intent_hash(waiting),
            now_ms,
            reference=None,
            code="never_arrived",
        )
        guard = OperationOpen(operation_id=operation.operation_id)
        # One commit: the old attempt is closed exactly when the new one is promised.
        _, intent = await self._ledger.append([absent, follow_up_draft(again, None)], guard, purpose=Purpose.OUTCOME)
        self._operations.start(again, intent.entry_hash)

    async def _expire(self) -> None:
        """Give up what is held too long, one after the other, as long as the provider's clock agrees that it is."""
        if self._clock.monotonic_ms() < self._expiry_rests_until_ms:
            return
        now_ms = self._clock.now_ms()
        for standing in await self._read(lambda connection: _held_too_long(connection, now_ms)):
            if not await self._is_over(standing):
                self._expiry_rests_until_ms = self._clock.monotonic_ms() + _PAUSE_MS_MAX
                return
            await self._take_back(standing)

    async def _is_over(self, standing: StandingPayment) -> bool:
        """By the provider's clock too: ours may have been stepped, and what is given up is given up for good."""
        payment = standing.recorded.key
        ordinal = await self._read(lambda connection: operation_count(connection, payment))
        question = operation_on(
            standing, OperationKind.CANCEL, standing.held_minor, ordinal, self._clock.now_ms(), asked_by=None
        )
        match await self._operations.find(question, since_ms=0, known=None):
            case port.Found():
                return True  # captured or cancelled there already: the operation will say which
            case port.Absent(as_of_ms=as_of_ms) if as_of_ms >= (standing.capture_before_ms or 0):
                return True
            case port.Absent(as_of_ms=as_of_ms):
                ahead_ms = self._clock.now_ms() - as_of_ms
                self._log.warning("authorisation.clock_disagrees", payment=str(payment), ahead_ms=ahead_ms)
            case port.Unknown(reason=reason):
                self._log.info("authorisation.expiry_postponed", payment=str(payment), reason=reason)
        return False

    async def _take_back(self, standing: StandingPayment) -> None:
        try:
            await self._give_back.rest("", Unchanged(standing=standing, fresh=None), asked_by=None)
        except (Rejected, Unavailable) as refusal:
            self._log.info("reversal.postponed", payment=str(standing.recorded.key), code=refusal.code)

    async def _warn(self) -> None:
        """Say once of each authorised payment that its time to be captured runs out."""
        now_ms = self._clock.now_ms()
        soon = await self._read(lambda connection: held_until(connection, now_ms + _WARN_BEFORE_MS, BATCH))
        for payment, capture_before_ms in soon:
            if payment not in self._warned:
                left_ms = capture_before_ms - now_ms
                self._log.warning("authorisation.expires_soon", payment=str(payment), left_ms=left_ms)
        self._warned = frozenset(payment for payment, _ in soon)

    def _wait(self, name: OperationId, found: port.Absent | port.Unknown) -> None:
        looked = self._open[name]
        pause_ms = looked.pause_ms = min(2 * looked.pause_ms, _PAUSE_MS_MAX, max(self._settle_ms, _IDLE_MS))
        looked.next_look_ms = self._clock.monotonic_ms() + self._jitter.randint(pause_ms // 2, pause_ms)
        if isinstance(found, port.Unknown):
            self._log.warning("operation.unresolved", operation=name, reason=found.reason)

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._ledger.read(query, purpose=Purpose.OUTCOME)

    async def _intent_hash(self, waiting: OpenOperation) -> bytes:
        return await self._read(lambda connection: entry_hash_at(connection, waiting.intent_seq))


def _due(connection: sqlite3.Connection) -> list[StandingPayment]:
    """Reversals that were asked for while their payment was open."""
    return [require_payment(connection, payment) for payment in reversals_due(connection, BATCH)]


def _held_too_long(connection: sqlite3.Connection, now_ms: int) -> list[StandingPayment]:
    return [require_payment(connection, payment) for payment, _ in held_until(connection, now_ms, _EXPIRIES_MAX)]
