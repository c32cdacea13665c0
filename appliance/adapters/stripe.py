"""Cards through Stripe, in our own words: what is asked, and what was found.

What an answer means is `stripe_reply`'s, how it travels `stripe_session`'s. Must never retry, never send without
our own idempotency key, and never raise for what a network or Stripe did.

Source: docs.stripe.com/api/payment_intents, docs.stripe.com/api/refunds, docs.stripe.com/api/idempotent_requests.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any, Final, Self

from appliance.adapters.provider_http import Reply, why
from appliance.adapters.stripe_held import STILL_HELD, cancel_answer, capture_answer
from appliance.adapters.stripe_money import amount_for_stripe
from appliance.adapters.stripe_reader import WAITING, ReaderPayments, WaitingAtReader, is_reader
from appliance.adapters.stripe_reply import (
    Expected,
    Payment,
    Refunded,
    authorise_answer,
    failure_answer,
    payment_answer,
    refund_answer,
    refunded_answer,
)
from appliance.adapters.stripe_session import StripeSession, StripeSettings
from appliance.adapters.waiting import WaitingCustomers
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Absent,
    Answer,
    Authorise,
    Cancel,
    Capture,
    Confirmed,
    Declined,
    Found,
    Operation,
    PartlyConfirmed,
    Refund,
    Refused,
    Unknown,
)

_PAYMENTS: Final = "/v1/payment_intents"
_REFUNDS: Final = "/v1/refunds"
_REFERENCE: Final = re.compile(r"\A(?:pi|re|pyr)_[0-9A-Za-z]{1,120}\Z")  # it becomes part of a path
_READER: Final = re.compile(r"\Atmr_[0-9A-Za-z]{1,120}\Z")  # the same

_SHOWN: Final[dict[str, Any]] = {"expand": ["latest_charge"]}
_LISTED: Final[dict[str, Any]] = {"expand": ["data.latest_charge"]}
_PARTIAL: Final[dict[str, Any]] = {
    **_SHOWN,
    "payment_method_options": {"card": {"request_partial_authorization": "if_available"}},
}
"""Of a card that the provider knows; its page offers this for no card reader, which takes all or nothing."""


class StripeProvider:
    """Satisfies `Provider` and `Holds` on one Stripe account."""

    def __init__(self, *, session: StripeSession, readers: ReaderPayments) -> None:
        self._session = session
        self._readers = readers
        self._customers = WaitingCustomers()

    @classmethod
    async def open(cls, *, settings: StripeSettings, clock: Clock, jitter: random.Random) -> Self:
        """Make ready to ask; nothing is asked yet. Raises Rejected for a wrong key or address."""
        session = await StripeSession.open(settings=settings, clock=clock)
        readers = ReaderPayments(session=session, clock=clock, jitter=jitter, wait_ms=settings.reader_wait_ms)
        return cls(session=session, readers=readers)

    def patience_ms(self, operation: Operation) -> int:
        is_at_reader = isinstance(operation, Authorise) and is_reader(operation.source)
        return PROVIDER_DEADLINE_MS + (self._readers.patience_ms if is_at_reader else 0)

    def give_up(self, provider_key: ProviderKey) -> None:
        self._customers.give_up(provider_key)

    def hurry(self, reference: ProviderReference) -> bool:
        return self._customers.hurry(reference)

    async def authorise(self, operation: Authorise) -> Answer:
        expected = self._expected(operation)
        if isinstance(expected, Refused):
            return expected
        if is_reader(operation.source):
            return await self._authorise_at_reader(operation, expected)
        reply = await self._session.ask(
            "post",
            _PAYMENTS,
            key=operation.provider_key,
            allowed_payment_method_types=["card"],
            amount=expected.amount,
            currency=operation.amount.currency.lower(),
            capture_method="manual" if operation.is_captured_later else "automatic",
            confirm=True,
            error_on_requires_action=True,  # nobody at a till completes a redirect; such a card is declined at once
            metadata=expected.metadata,
            **_card(operation.source),
            **(_PARTIAL if expected.may_be_partial else {}),
        )
        return authorise_answer(reply, expected) if isinstance(reply, Reply) else reply

    async def _authorise_at_reader(self, operation: Authorise, expected: Expected) -> Answer:
        if not _READER.match(operation.source):
            return Refused(code="source_unknown", detail="the tender's source is not a reader's name")
        waiting = WaitingAtReader(reader=operation.source)
        with self._customers.await_one(operation.provider_key, waiting):
            return await self._readers.authorise(operation, expected, waiting)

    async def capture(self, operation: Capture) -> Answer:
        expected = self._expected(operation)
        amount = amount_for_stripe(operation.amount)
        if isinstance(expected, Refused):
            return expected
        if isinstance(amount, Refused):
            return amount
        path = f"{_PAYMENTS}/{operation.of}/capture"
        reply = await self._session.ask("post", path, key=operation.provider_key, amount_to_capture=amount)
        if not isinstance(reply, Reply):
            return reply
        return capture_answer(reply, expected, operation.amount, operation.of)

    async def refund(self, operation: Refund) -> Answer:
        expected = self._expected(operation)
        if isinstance(expected, Refused):
            return expected
        reply = await self._session.ask(
            "post",
            _REFUNDS,
            key=operation.provider_key,
            amount=expected.amount,
            metadata=expected.metadata,
            payment_intent=operation.of,
        )
        return refund_answer(reply, expected, operation.of) if isinstance(reply, Reply) else reply

    async def cancel(self, operation: Cancel) -> Answer:
        expected = self._expected(operation)
        if isinstance(expected, Refused):
            return expected
        reply = await self._session.ask("post", f"{_PAYMENTS}/{operation.of}/cancel", key=operation.provider_key)
        return cancel_answer(reply, expected, operation.of) if isinstance(reply, Reply) else reply

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        expected = self._expected(operation)
        if isinstance(expected, Refused):
            # The same check refused to send it, so it cannot be there; that proof is not this method's to give.
            return Unknown(reason=expected.code)
        if isinstance(operation, Cancel | Capture):
            return await self._find_on_payment(operation, expected)  # neither has a name of its own
        if known is not None and not _REFERENCE.match(known):
            return Unknown(reason="reference_malformed")
        if known is not None:
            found: Found | Absent | Unknown = await self._find_known(operation, expected, known)
        else:
            found = await self._find_listed(operation, expected, since_ms)
        if isinstance(operation, Authorise) and is_reader(operation.source):
            return await self._find_left(operation, expected, found)
        return found

    async def close(self) -> None:
        await self._session.close()

    async def _find_left(
        self, operation: Authorise, expected: Expected, found: Found | Absent | Unknown
    ) -> Found | Absent | Unknown:
        """A payment that waits at a reader, and nobody here waits for it, would wait for ever: it is ended.

        So is one whose card was declined: until it is cancelled, the next card can be charged for it.
        """
        said = found.answer if isinstance(found, Found) else found
        is_open = isinstance(said, Declined) or (isinstance(said, Unknown) and said.reason == WAITING)
        if isinstance(said, Absent) or not is_open or said.provider_reference is None:
            return found
        waits = Unknown(reason=WAITING, provider_reference=said.provider_reference)
        if operation.provider_key in self._customers:
            return waits
        answer = await self._readers.end_left(expected, operation.source, said.provider_reference)
        return waits if answer is None else Found(answer=answer)

    async def _find_known(self, operation: Operation, expected: Expected, known: ProviderReference) -> Found | Unknown:
        path = f"{_REFUNDS if isinstance(operation, Refund) else _PAYMENTS}/{known}"
        shown = _SHOWN if expected.may_be_partial else {}
        reply = await self._session.ask("get", path, **shown)
        if not isinstance(reply, Reply):
            return Unknown(reason=reply.reason, provider_reference=known)
        if not reply.is_success:
            # Also 404: Stripe forgets no payment, so this is another account or a lie, not absence.
            return Unknown(reason=why(failure_answer(reply, expected)), provider_reference=known)
        answer: Answer
        match operation:
            case Authorise():
                answer = authorise_answer(reply, expected)
            case Refund():
                answer = refund_answer(reply, expected, operation.of)
            case _:
                answer = refund_answer(reply, expected, operation.of)
        if isinstance(answer, Confirmed | PartlyConfirmed | Declined):
            return Found(answer=answer)
        return Unknown(reason=why(answer), provider_reference=known)

    async def _find_on_payment(self, operation: Cancel | Capture, expected: Expected) -> Found | Absent | Unknown:
        reply = await self._session.ask("get", f"{_PAYMENTS}/{operation.of}")
        if not isinstance(reply, Reply):
            return Unknown(reason=reply.reason)
        of = operation.of
        if isinstance(operation, Capture):
            answer = capture_answer(reply, expected, operation.amount, of)
        else:
            answer = cancel_answer(reply, expected, of)
        if isinstance(answer, Confirmed | Declined):
            return Found(answer=answer)
        if isinstance(answer, Unknown) and answer.reason == STILL_HELD and reply.date_ms is not None:
            return Absent(as_of_ms=reply.date_ms)
        return Unknown(reason=why(answer), provider_reference=of)

    async def _find_listed(self, operation: Operation, expected: Expected, since_ms: int) -> Found | Absent | Unknown:
        answers: list[Confirmed | PartlyConfirmed | Declined | Unknown]
        if isinstance(operation, Refund):
            of = operation.of
            refunds = await self._session.list_all(_REFUNDS, Refunded, payment_intent=of)
            if isinstance(refunds, Unknown):
                return refunds
            answers = [refunded_answer(item, expected, of) for item in refunds.items if _is_ours(item, expected)]
            return _verdict(answers, refunds.as_of_ms)
        shown = _LISTED if expected.may_be_partial else {}
        payments = await self._session.list_all(_PAYMENTS, Payment, created={"gte": since_ms // 1000}, **shown)
        if isinstance(payments, Unknown):
            return payments
        answers = [payment_answer(item, expected) for item in payments.items if _is_ours(item, expected)]
        return _verdict(answers, payments.as_of_ms)

    def _expected(self, operation: Operation) -> Expected | Refused:
        """What a truthful answer carries, or why the operation cannot be sent."""
        if not isinstance(operation, Authorise) and not _REFERENCE.match(operation.of):
            return Refused(code="reference_malformed", detail="the payment's name is not one that Stripe gives")
        money = operation.held if isinstance(operation, Capture) else operation.amount
        amount = amount_for_stripe(money)
        if isinstance(amount, Refused):
            return amount
        reference = operation.reference
        metadata = {"tillstone_log": reference.log_origin, "tillstone_payment": str(reference.payment_key)}
        if isinstance(operation, Cancel | Capture):
            # They answer with the payment itself, which carries its authorisation's names, not theirs.
            return Expected(money=money, amount=amount, metadata=metadata, is_live=self._session.is_live)
        metadata |= {
            "tillstone_operation": reference.operation_id,
            "tillstone_terminal": reference.terminal_id,
            "tillstone_key": operation.provider_key,
        }
        return Expected(
            money=money,
            amount=amount,
            metadata=metadata,
            is_live=self._session.is_live,
            is_captured_later=isinstance(operation, Authorise) and operation.is_captured_later,
            may_be_partial=isinstance(operation, Authorise)
            and operation.may_be_partial
            and not is_reader(operation.source),
        )


def _is_ours(item: Payment | Refunded, expected: Expected) -> bool:
    """The provider key is never used twice, so it alone names the operation; the rest is compared afterwards."""
    return item.metadata.get("tillstone_key") == expected.metadata["tillstone_key"]


def _verdict(
    answers: Sequence[Confirmed | PartlyConfirmed | Declined | Unknown], as_of_ms: int
) -> Found | Absent | Unknown:
    """One answer out of everything that carries our key."""
    confirmed: list[Confirmed | PartlyConfirmed] = []
    declined: list[Declined] = []
    for answer in answers:
        match answer:
            case Unknown():
                return answer
            case Confirmed() | PartlyConfirmed():
                confirmed.append(answer)
            case Declined():
                declined.append(answer)
    if len(confirmed) > 1:
        # A key that outlived the provider's memory was sent again: two live charges, and a person must choose.
        return Unknown(reason="found_more_than_once")
    final: list[Confirmed | PartlyConfirmed | Declined] = [*confirmed, *declined]
    return Found(answer=final[0]) if final else Absent(as_of_ms=as_of_ms)


def _card(source: str) -> dict[str, str]:
    """What names the card: a payment method, or `CUSTOMER/METHOD` of one that is attached to a customer.

    An attached one is refused without its customer (docs.stripe.com/payments/save-and-reuse).
    """
    customer, slash, method = source.rpartition("/")
    return {"customer": customer, "payment_method": method} if slash else {"payment_method": method}
