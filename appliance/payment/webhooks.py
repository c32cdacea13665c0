"""What becomes of a webhook: it is verified, counted, deduplicated, and then makes somebody look sooner. Nothing else.

Rules:
- No state of a payment ever follows from a webhook: operations and resolver read the provider, as they would anyway.
- The sender is answered before anything is looked at; what does not fit into the queue is refused: polling finds it.
- Whatever is not an ordinary hint is counted by its outcome; what somebody must know of stands in health for an hour.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import ProviderName, ProviderReference
from appliance.model.limits import HOUR_MS, WEBHOOK_IDS_MAX, WEBHOOKS_WAITING_MAX
from appliance.model.operation import OPEN, Operation, OperationState
from appliance.payment.operation_records import OpenOperation, find_operation
from appliance.payment.resolve import Resolver
from appliance.ports.clock import Clock
from appliance.ports.hint import Hint, HintReader
from appliance.ports.provider import Absent, Confirmed, Found, PartlyConfirmed, Unknown
from appliance.runtime.log import Log

REFUSALS: Final = {
    "webhook_forged": "forged",
    "webhook_late": "late",
    "webhook_malformed": "malformed",
    "too_large": "too_large",
    "body_incomplete": "slow",
    "too_many_reads": "too_many",
}
ALARMING: Final = frozenset(
    {"forged", "late", "malformed", "too_large", "slow", "too_many", "foreign", "unread", "contradicts"}
)


Find = Callable[[Operation, ProviderReference], Awaitable[Found | Absent | Unknown]]
"""Reads from the provider what became of an operation."""


class Webhooks:
    """One service and the way in, for one provider."""

    def __init__(
        self,
        *,
        reader: HintReader,
        log_origin: str,
        provider: ProviderName,
        hurry: Callable[[ProviderReference], bool],
        find: Find,
        resolver: Resolver,
        ledger: Ledger,
        clock: Clock,
        log: Log,
        count: Callable[[str], None],
    ) -> None:
        self._reader = reader
        self._log_origin = log_origin
        self._provider = provider
        self._hurry = hurry
        self._find = find
        self._resolver = resolver
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._count = count
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._waiting: asyncio.Queue[Hint] = asyncio.Queue(WEBHOOKS_WAITING_MAX)
        self._alarms: dict[str, tuple[int, int]] = {}

    def take(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Take one webhook; on return it is genuine and will be looked into, or was known already.

        Raises:
            Rejected: `webhook_forged`, `webhook_late`, `webhook_malformed`.
            Unavailable: `webhooks_busy`: too many wait; it may come again.
        """
        try:
            hint = self._reader.read(body, headers)
        except Rejected as refusal:
            self.refused(refusal)
            raise
        if hint.event in self._seen:
            self._note("repeated")
            return
        try:
            self._waiting.put_nowait(hint)
        except asyncio.QueueFull:
            self._note("dropped")
            raise Unavailable("webhooks_busy", "too many webhooks wait; send it again later") from None
        self._seen[hint.event] = None
        if len(self._seen) > WEBHOOK_IDS_MAX:
            self._seen.popitem(last=False)

    def refused(self, refusal: Rejected) -> None:
        """Count what was refused, here or at the door."""
        self._note(REFUSALS.get(refusal.code, "malformed"))

    async def run(self) -> None:
        """Look into one hint after the other, for ever."""
        while True:
            hint = await self._waiting.get()
            self._note(await self._look_into(hint))

    def alarms(self) -> dict[str, int]:
        """What somebody must know of, with how often it came, as long as the last one is an hour young."""
        young_ms = self._clock.monotonic_ms() - HOUR_MS
        self._alarms = {outcome: alarm for outcome, alarm in self._alarms.items() if alarm[1] >= young_ms}
        return {outcome: times for outcome, (times, _) in sorted(self._alarms.items())}

    async def _look_into(self, hint: Hint) -> str:
        """What it was about; whoever waits for it looks now instead of later."""
        if hint.reference is not None and self._hurry(hint.reference):
            return "hurried"
        if hint.operation is None:
            return "idle"  # a reader's event whose payment nobody waits for, or an event without our names
        if hint.log_origin != self._log_origin:
            return "foreign"
        name = hint.operation
        known = await self._ledger.read(lambda connection: find_operation(connection, name))
        if known is None or known.operation.provider != self._provider:
            return "foreign"
        if known.state in OPEN:
            self._resolver.hurry(name)
            return "hurried"
        is_closed_unpaid = known.state in (OperationState.REJECTED, OperationState.ABSENT)
        if hint.says_paid and hint.reference is not None and is_closed_unpaid:
            return await self._contradiction(known, hint.reference)
        return "settled"

    async def _contradiction(self, known: OpenOperation, reference: ProviderReference) -> str:
        """It says "paid" of what the log closed otherwise: ask the provider itself. The outcome stays as it is."""
        found = await self._find(known.operation, reference)
        if isinstance(found, Unknown):
            return "unread"
        if not (isinstance(found, Found) and isinstance(found.answer, Confirmed | PartlyConfirmed)):
            return "settled"
        await self._resolver.contradictions.tell(known, found.answer)
        return "contradicts"

    def _note(self, outcome: str) -> None:
        self._count(outcome)
        if outcome in ALARMING:
            times, _ = self._alarms.get(outcome, (0, 0))
            self._alarms[outcome] = (times + 1, self._clock.monotonic_ms())
            if times == 0:
                self._log.warning("webhook.not_believed", outcome=outcome)
