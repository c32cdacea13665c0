"""One payment at one card reader, from the question to an answer that is final.

    create the payment          nothing can be charged yet
    hand it to the reader       from here on a card may be shown at any moment
    watch payment and reader    until the payment says how it ended
    withdraw                    when time is up, the till gives up, or the reader is gone or busy with something else

Money is believed of the payment alone, never of the reader: a reader may say failed after charging, or say nothing.

Rules:
- "Nothing moved" is said only once the payment itself is cancelled for good; neither a refusal of the reader nor of the
  card's bank is enough: the next card could still be charged for it.
- An action on the reader is cancelled only while it is ours.
- Everything is bounded: the customer's time by a setting, the withdrawal by `WITHDRAW_MS`.

Source: docs.stripe.com/terminal/payments/collect-card-payment?terminal-sdk-platform=server-driven, "Verify the reader
state" and "Handle errors".
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.adapters.provider_http import Reply, read
from appliance.adapters.stripe_held import payment_in
from appliance.adapters.stripe_reply import (
    CANCELED,
    Expected,
    Payment,
    authorise_answer,
    failure_answer,
    payment_answer,
)
from appliance.adapters.stripe_session import StripeSession
from appliance.adapters.waiting import Waiting
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.ports.clock import Clock
from appliance.ports.provider import Answer, Authorise, Confirmed, Declined, NotSent, PartlyConfirmed, Refused, Unknown
from appliance.runtime.nap import nap

PAYMENTS: Final = "/v1/payment_intents"
READERS: Final = "/v1/terminal/readers"
READER_PREFIX: Final = "tmr_"
_REUSABLE: Final = ("pm_", "cus_", "card_", "src_")
_TEST_CARD: Final = "pm_card_"
UNHEARD_MS: Final = 5_000
"""How long a reader whose answer was lost may take to show the payment."""
WITHDRAW_MS: Final = 20_000
"""An authorisation "normally takes a few seconds" and cannot be cancelled meanwhile."""
ASK_MS_MAX: Final = 10_000
_CODE: Final = re.compile(r"\A[a-z][a-z0-9_]{0,63}\Z")
_PAUSE_FIRST_MS: Final = 500
_PAUSE_MAX_MS: Final = 2_000
WAITING: Final = "requires_payment_method"
"""What a payment says that no card was shown for, or whose reader never heard of it."""
_LIES: Final = frozenset({"account_mode_differs", "reference_differs", "currency_differs", "amount_differs"})
_CODES: Final = {
    "terminal_reader_busy": "reader_busy",
    "terminal_reader_offline": "reader_offline",
    "terminal_reader_hardware_fault": "reader_broken",
    "resource_missing": "reader_unknown",
}
_MESSAGES: Final = {
    "reader_busy": "The reader is busy with something else.",
    "reader_offline": "The reader is switched off or has no connection.",
    "reader_broken": "The reader reports a fault of its own.",
    "reader_unknown": "The provider knows no such reader.",
    "reader_unreached": "The reader did not hear of it.",
    "reader_taken": "Another payment took the reader over.",
    "customer_timeout": "No card was shown in time.",
    "customer_canceled": "The customer cancelled on the reader.",
    "payment_aborted": "The till stopped waiting.",
}


class _Handed(msgspec.Struct, frozen=True, kw_only=True):
    payment_intent: str


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader does or did last."""

    type: str
    status: str
    failure_code: str | None = None
    process_payment_intent: _Handed | None = None

    def is_of(self, payment: str) -> bool:
        return self.process_payment_intent is not None and self.process_payment_intent.payment_intent == payment


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a reader; others are ignored."""

    id: str
    action: Action | None


@dataclass(slots=True, kw_only=True)
class WaitingAtReader(Waiting):
    """A payment that waits at a reader now."""

    reader: str
    is_handed_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a payment said of itself.

    Attributes:
        is_over: looking again can change nothing: paid, cancelled for good, or it contradicts what was asked.
    """

    answer: Answer
    is_over: bool = False


class ReaderPayments:
    """Payments at the readers of one account."""

    def __init__(self, *, session: StripeSession, clock: Clock, jitter: random.Random, wait_ms: int) -> None:
        self._session = session
        self._clock = clock
        self._jitter = jitter
        self._wait_ms = wait_ms

    @property
    def patience_ms(self) -> int:
        """How much longer than any other answer one from a reader may take."""
        return self._wait_ms + WITHDRAW_MS

    async def authorise(self, operation: Authorise, expected: Expected, waiting: WaitingAtReader) -> Answer:
        """Take the payment at `waiting.reader`."""
        made = await self._session.ask(
            "post",
            PAYMENTS,
            key=operation.provider_key,
            allowed_payment_method_types=["card_present"],
            amount=expected.amount,
            capture_method="manual" if operation.is_captured_later else "automatic",
            currency=operation.amount.currency.lower(),
            metadata=expected.metadata,
        )
        if not isinstance(made, Reply):
            return made
        answer = authorise_answer(made, expected)
        if not isinstance(answer, Unknown) or answer.reason != WAITING or answer.provider_reference is None:
            return answer
        waiting.reference = answer.provider_reference
        refused = await self._hand_over(operation.provider_key, expected, waiting)
        if refused is not None:
            return await self._withdraw(expected, waiting, _declined(refused, waiting.reference))
        return await self._watch(expected, waiting)

    async def end_left(
        self, expected: Expected, reader: str, reference: ProviderReference
    ) -> Confirmed | Declined | None:
        """End a payment that nobody watches any more; None while it has no end.

        One whose card was declined is ended at once, any other when its customer's time is over.
        """
        reply = await self._ask("get", f"{PAYMENTS}/{reference}")
        payment: Payment | None = read(reply.body, Payment) if isinstance(reply, Reply) and reply.is_success else None
        # Both times are Stripe's own: our clock may have been wrong.
        if payment is None or not isinstance(reply, Reply) or reply.date_ms is None:
            return None
        is_early = reply.date_ms < payment.created * 1000 + self._wait_ms + WITHDRAW_MS
        if is_early and payment.last_payment_error is None:
            return None
        waiting = WaitingAtReader(reader=reader, reference=reference)
        answer = await self._withdraw(expected, waiting, _declined("customer_timeout", reference))
        return answer if isinstance(answer, Confirmed | Declined) else None

    async def _hand_over(self, key: ProviderKey, expected: Expected, waiting: WaitingAtReader) -> str | None:
        """Show the payment on the reader; the code when the reader provably did not take it."""
        handed = await self._ask(
            "post",
            f"{READERS}/{waiting.reader}/process_payment_intent",
            key=f"{key}/process",
            payment_intent=waiting.reference,
            process_config={
                "enable_customer_cancellation": True,
                "skip_tipping": True,  # a tip chosen there would make it another amount than the intent's
            },
        )
        if not isinstance(handed, Reply):
            return None  # a lost answer: watching tells
        waiting.is_handed_over = handed.is_success
        if handed.is_success:
            return None
        failure = failure_answer(handed, expected)
        if not isinstance(failure, Refused) or failure.code in {"terminal_reader_timeout", "intent_invalid_state"}:
            return None  # a timeout may be a false negative: the reader may have heard it
        return _CODES.get(failure.code, failure.code)

    async def _watch(self, expected: Expected, waiting: WaitingAtReader) -> Answer:
        """Look again and again, sooner when somebody rings, until it ended or the customer's time is over."""
        began_ms = self._clock.monotonic_ms()
        ends_ms = began_ms + self._wait_ms
        pause_ms = _PAUSE_FIRST_MS
        while True:
            seen = await self._payment(expected, waiting)
            if seen.is_over:
                return seen.answer
            if isinstance(seen.answer, Declined):
                return await self._withdraw(expected, waiting, seen.answer)
            code = await self._what_stops(waiting, self._clock.monotonic_ms() - began_ms)
            left_ms = ends_ms - self._clock.monotonic_ms()
            if code is not None or left_ms <= 0:
                return await self._withdraw(expected, waiting, _declined(code or "customer_timeout", waiting.reference))
            await self._nap(waiting, min(pause_ms, left_ms))
            pause_ms = min(pause_ms * 3 // 2, _PAUSE_MAX_MS)

    async def _what_stops(self, waiting: WaitingAtReader, waited_ms: int) -> str | None:
        """Why waiting at the reader makes no sense any more, or None."""
        if waiting.is_given_up:
            return "payment_aborted"
        reader = await self._reader(waiting)
        if reader is None:
            return None
        if reader.action is None or not reader.action.is_of(waiting.reference):
            if waiting.is_handed_over:
                return "reader_taken"
            return "reader_unreached" if waited_ms >= UNHEARD_MS else None
        if reader.action.status == "failed":
            code = reader.action.failure_code or ""
            return code if _CODE.match(code) else "card_declined"
        return None

    async def _withdraw(self, expected: Expected, waiting: WaitingAtReader, refusal: Declined) -> Answer:
        """See to it that nothing can be charged any more, and say how the payment ended.

        That is `refusal`, unless the card's bank or the payment itself knows better.
        """
        ends_ms = self._clock.monotonic_ms() + WITHDRAW_MS
        while True:
            seen = await self._payment(expected, waiting)
            refusal = _finer(refusal, seen.answer)
            is_late = self._clock.monotonic_ms() >= ends_ms
            # While the bank is asked nobody may interfere; that normally takes a few seconds.
            if not seen.is_over and (await self._free(expected, waiting) or is_late):
                # Without a key: a key would only repeat an old refusal.
                seen = _seen(await self._ask("post", f"{PAYMENTS}/{waiting.reference}/cancel"), expected)
                refusal = _finer(refusal, seen.answer)
            if seen.is_over:  # perhaps the card was quicker than we
                return refusal if isinstance(seen.answer, Declined) else seen.answer
            if is_late:
                return Unknown(reason="withdrawal_unclear", provider_reference=ProviderReference(waiting.reference))
            await self._nap(waiting, _PAUSE_FIRST_MS)

    async def _free(self, expected: Expected, waiting: WaitingAtReader) -> bool:
        """Take our payment off the reader; False while its bank is being asked."""
        reader = await self._reader(waiting)
        action = None if reader is None else reader.action
        if action is None or not action.is_of(waiting.reference) or action.status != "in_progress":
            return True
        reply = await self._ask("post", f"{READERS}/{waiting.reader}/cancel_action")
        failure = failure_answer(reply, expected) if isinstance(reply, Reply) and not reply.is_success else None
        return not (isinstance(failure, Refused) and failure.code == "terminal_reader_busy")

    async def _payment(self, expected: Expected, waiting: WaitingAtReader) -> Seen:
        return _seen(await self._ask("get", f"{PAYMENTS}/{waiting.reference}"), expected)

    async def _ask(self, method: str, path: str, **parameters: Any) -> Reply | NotSent | Unknown:
        """One question with a bound of its own: one that hangs must not eat the customer's time."""
        try:
            async with asyncio.timeout(ASK_MS_MAX / 1_000):
                return await self._session.ask(method, path, **parameters)
        except TimeoutError:
            return Unknown(reason="deadline_passed")

    async def _reader(self, waiting: WaitingAtReader) -> Reader | None:
        reply = await self._ask("get", f"{READERS}/{waiting.reader}")
        return read(reply.body, Reader) if isinstance(reply, Reply) and reply.is_success else None

    async def _nap(self, waiting: WaitingAtReader, pause_ms: int) -> None:
        await nap(self._clock, self._jitter.randint(pause_ms // 2, pause_ms), waiting.bell)


def is_reader(source: str) -> bool:
    """Whether the source of a payment is a reader's name."""
    return source.startswith(READER_PREFIX)


def is_reusable_token(source: str) -> bool:
    """Whether the source is itself what takes money: a payment method that is none of Stripe's test cards."""
    return source.startswith(_REUSABLE) and not source.startswith(_TEST_CARD)


def _seen(reply: Reply | NotSent | Unknown, expected: Expected) -> Seen:
    payment = payment_in(reply) if isinstance(reply, Reply) else None
    if payment is None:
        return Seen(answer=Unknown(reason="answer_unreadable") if isinstance(reply, Reply) else reply)
    answer = payment_answer(payment, expected)
    match answer:
        case Declined():
            return Seen(answer=answer, is_over=payment.status == "canceled")
        case Unknown():
            return Seen(answer=answer, is_over=answer.reason in _LIES)
        case Confirmed() | PartlyConfirmed():
            return Seen(answer=answer, is_over=True)


def _finer(refusal: Declined, answer: Answer) -> Declined:
    """What the card's bank said stays, also when the payment is cancelled afterwards."""
    return answer if isinstance(answer, Declined) and answer.code != CANCELED else refusal


def _declined(code: str, reference: str) -> Declined:
    message = _MESSAGES.get(code, "The reader did not take a card.")
    return Declined(code=code, message=message, provider_reference=ProviderReference(reference))
