"""A provider in memory, with switches; the contract suite holds it to what the real one does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum
from typing import assert_never

from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.model.money import Money
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Absent,
    AcceptedOffline,
    Answer,
    Authorise,
    Cancel,
    Capture,
    Confirmed,
    Declined,
    Forward,
    Found,
    NotSent,
    Operation,
    PartlyConfirmed,
    Refund,
    Refused,
    Unknown,
)

DECLINED_SOURCES = {
    "pm_card_visa_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedExpiredCard": "expired_card",
}

PARTIAL = "pm_card_debit_partialAuthorization"
"""Approves 70 % where less may be approved, else it has too little."""


class Switch(Enum):
    """What goes wrong with the next operations."""

    NONE = "none"
    NOT_SENT = "not_sent"  # no connection, provably nothing happened
    FAIL_BEFORE = "fail_before"  # nothing happened, but that cannot be seen
    FAIL_AFTER = "fail_after"  # it happened, the answer is lost
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    LIE = "lie"  # it happened, the answer speaks of another amount
    OTHER = "other"  # it happened, the answer speaks of another payment
    REFUSE = "refuse"  # a typed no to the request itself


class FakeProvider:
    """Satisfies `Holds`.

    Attributes:
        switch: strikes `strikes_left` times, on operations only.
        is_reading_down: `find` answers Unknown.
        is_key_wrong: no card payment is begun.
        asked: every operation that was asked, in order, also those that failed.
    """

    device = ""
    """What begins the names that it gives."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = clock.now_ms() - clock.monotonic_ms()
        self._done: dict[ProviderKey, tuple[Operation, Confirmed | PartlyConfirmed | AcceptedOffline | Declined]] = {}
        self._made_ms: dict[ProviderKey, int] = {}
        self._payments: dict[ProviderReference, Authorise] = {}
        self._captured: dict[ProviderReference, int] = {}
        self._cancelled: set[ProviderReference] = set()
        self.switch = Switch.NONE
        self.strikes_left = 0
        self.is_reading_down = False
        self.is_key_wrong = False
        self.asked: list[Operation] = []
        self.given_up: list[ProviderKey] = []
        self._let_go = asyncio.Event()

    def admit(self) -> None:
        """Raises as a box does whose key the provider refuses."""
        if self.is_key_wrong:
            raise Unavailable("provider_credentials_wrong", "the key is another account's")

    def let_go(self) -> None:
        """Whatever hangs ends, its answer lost."""
        self._let_go.set()

    def strike(self, switch: Switch, times: int = 1) -> None:
        self.switch, self.strikes_left = switch, times

    async def authorise(self, operation: Authorise) -> Answer:
        return await self._ask(operation)

    async def capture(self, operation: Capture) -> Answer:
        return await self._ask(operation)

    async def refund(self, operation: Refund) -> Answer:
        return await self._ask(operation)

    async def cancel(self, operation: Cancel) -> Answer:
        return await self._ask(operation)

    def patience_ms(self, operation: Operation) -> int:
        return PROVIDER_DEADLINE_MS

    def give_up(self, provider_key: ProviderKey) -> None:
        self.given_up.append(provider_key)

    def hurry(self, reference: ProviderReference) -> bool:
        return False

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        if self.is_reading_down:
            return Unknown(reason="connection_lost")
        if isinstance(operation, Cancel | Capture):
            return self._found_on_payment(operation)
        found = self._done.get(operation.provider_key)
        if (
            isinstance(operation, Authorise)
            and known is None
            and self._made_ms.get(operation.provider_key, 0) < since_ms
        ):
            found = None  # the listing begins later
        if found is not None and _is_same(found[0], operation):
            return Found(answer=found[1])
        if found is not None or known is not None:
            return Unknown(reason="reference_differs")
        return Absent(as_of_ms=self._now_ms())

    def _now_ms(self) -> int:
        """A provider's clock is its own: no step of the box's moves it."""
        return self._clock.monotonic_ms() + self._ahead_ms

    async def close(self) -> None:
        """Nothing to release."""

    def charged_minor(self) -> int:
        """The money oracle: what all live charges keep."""
        taken = sum(self._captured.values())
        return taken - sum(self._refunded_minor(reference) for reference in self._payments)

    async def _ask(self, operation: Operation) -> Answer:
        self.asked.append(operation)
        switch = self.switch if self.strikes_left else Switch.NONE
        self.strikes_left = max(0, self.strikes_left - 1)
        match switch:
            case Switch.NONE:
                return self._execute(operation)
            case Switch.NOT_SENT:
                return NotSent(reason="connection_failed")
            case Switch.FAIL_BEFORE:
                return Unknown(reason="connection_lost")
            case Switch.FAIL_AFTER:
                self._execute(operation)
                return Unknown(reason="connection_lost")
            case Switch.HANG_BEFORE:
                await self._let_go.wait()
                return Unknown(reason="connection_lost")
            case Switch.HANG_AFTER:
                self._execute(operation)
                await self._let_go.wait()
                return Unknown(reason="connection_lost")
            case Switch.LIE:
                self._execute(operation)
                return Unknown(reason="amount_differs")
            case Switch.OTHER:
                self._execute(operation)
                on_payment = isinstance(operation, Cancel | Capture)
                return Unknown(reason="payment_differs" if on_payment else "reference_differs")
            case Switch.REFUSE:
                return Refused(code="request_refused", detail="the switch says so")
            case _:
                assert_never(switch)

    def _execute(self, operation: Operation) -> Answer:
        before = self._done.get(operation.provider_key)
        if before is not None:
            return before[1] if before[0] == operation else Unknown(reason="key_reused")
        answer: Answer
        match operation:
            case Authorise():
                answer = self._authorise(operation)
            case Refund():
                answer = self._refund(operation)
            case Capture():
                answer = self._capture(operation)
            case Cancel():
                answer = self._cancel(operation)
            case Forward():
                answer = self._forward(operation)
        if isinstance(answer, Confirmed | PartlyConfirmed | AcceptedOffline | Declined):
            self._done[operation.provider_key] = (operation, answer)
            self._made_ms[operation.provider_key] = self._now_ms()
        return answer

    def _authorise(self, operation: Authorise) -> Confirmed | PartlyConfirmed | AcceptedOffline | Declined:
        reference = ProviderReference(f"{self.device}pi_{len(self._done) + 1:024d}")
        code = DECLINED_SOURCES.get(operation.source)
        if operation.source == PARTIAL and not operation.may_be_partial:
            code = "insufficient_funds"
        if code is not None:
            return Declined(code=code, message="The card was declined.", provider_reference=reference)
        self._payments[reference] = operation
        if operation.source == PARTIAL:
            took = Money(operation.amount.amount_minor * 70 // 100, operation.amount.currency)
            self._captured[reference] = took.amount_minor
            at_ms = self._now_ms() // 1000 * 1000
            return PartlyConfirmed(provider_reference=reference, amount=took, confirmed_ms=at_ms)
        if not operation.is_captured_later:
            self._captured[reference] = operation.amount.amount_minor
        return self._confirmed(operation, reference)

    def _forward(self, operation: Forward) -> Confirmed | Declined | NotSent | Refused:
        return Refused(code="accepts_nothing_offline", detail="only FakeForwards does")

    def lapse(self) -> None:
        """Nothing that is held is held any longer, as after days."""
        self._cancelled |= self._payments.keys() - self._captured.keys()

    def execute_late(self, operation: Operation) -> None:
        """A request that was lost arrives after all; nobody hears the answer."""
        self._execute(operation)

    def held_minor(self) -> int:
        """What banks hold, neither captured nor given up."""
        held = self._payments.keys() - self._captured.keys() - self._cancelled
        return sum(self._payments[reference].amount.amount_minor for reference in held)

    def _capture(self, operation: Capture) -> Confirmed | Declined | Refused:
        if operation.of not in self._payments:
            return Refused(code="resource_missing", detail="no such payment")
        if operation.of in self._cancelled:
            return Declined(code="payment_canceled", message="Held no longer.", provider_reference=operation.of)
        if operation.of in self._captured and self._captured[operation.of] != operation.amount.amount_minor:
            return Refused(code="payment_already_captured", detail="the payment took another amount")
        self._captured[operation.of] = operation.amount.amount_minor
        return self._confirmed(operation, operation.of)

    def _cancel(self, operation: Cancel) -> Confirmed | Refused:
        if operation.of in self._captured:
            return Refused(code="payment_already_captured", detail="the payment took the money")
        self._cancelled.add(operation.of)
        return self._confirmed(operation, operation.of)

    def _found_on_payment(self, operation: Cancel | Capture) -> Found | Absent | Unknown:
        of = operation.of
        if of not in self._captured and of not in self._cancelled:
            return Absent(as_of_ms=self._now_ms())
        if isinstance(operation, Cancel):
            taken = Declined(code="payment_already_captured", message="The payment took the money.")
            return Found(answer=taken if of in self._captured else self._confirmed(operation, of))
        if of in self._cancelled:
            return Found(answer=Declined(code="payment_canceled", message="Held no longer.", provider_reference=of))
        if self._captured[of] != operation.amount.amount_minor:
            return Unknown(reason="amount_differs", provider_reference=of)
        return Found(answer=self._confirmed(operation, of))

    def _refund(self, operation: Refund) -> Confirmed | Refused:
        payment = self._payments.get(operation.of)
        if payment is None:
            return Refused(code="resource_missing", detail="no such payment")
        left = self._captured.get(operation.of, 0) - self._refunded_minor(operation.of)
        if operation.amount.amount_minor > left:
            spent = operation.of in self._captured and left == 0
            code = "charge_already_refunded" if spent else "request_refused"
            return Refused(code=code, detail="more than what is left of the payment")
        return self._confirmed(operation, ProviderReference(f"re_{len(self._done) + 1:024d}"))

    def _refunded_minor(self, of: ProviderReference) -> int:
        done = (operation for operation, _ in self._done.values())
        return sum(each.amount.amount_minor for each in done if isinstance(each, Refund) and each.of == of)

    def _confirmed(self, operation: Operation, reference: ProviderReference) -> Confirmed:
        return Confirmed(
            provider_reference=reference, amount=operation.amount, confirmed_ms=self._now_ms() // 1000 * 1000
        )


def _is_same(made: Operation, asked: Operation) -> bool:
    """What a provider can tell: it was given a token where the box's own records have a name, and perhaps took less."""
    if isinstance(made, Authorise) and isinstance(asked, Authorise):
        as_asked = replace(made, source=asked.source)
        return as_asked == asked or (asked.may_be_partial and replace(as_asked, amount=asked.amount) == asked)
    return made == asked
