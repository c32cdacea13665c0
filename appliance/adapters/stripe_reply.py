"""What an answer of Stripe means; pure, and the only reader of Stripe's JSON.

Must never call anything failed that may have happened: whatever is not exactly understood is `Unknown`.

Rules:
- Only a typed `card_error` under status 402 is a decline, and only when the payment it carries took no money.
- A typed `invalid_request_error` under 400, 401, 403 or 404 did nothing. 409, 429, 5xx and untyped answers are Unknown.
- A key that was used with other bytes is Unknown, not refused: the first bytes may have charged.
- Success is believed only when amount, currency, mode and our own metadata come back as they were sent; a smaller
  amount only where that was allowed, and where the charge says of what it is a part.

Source: docs.stripe.com/api/errors, docs.stripe.com/payments/paymentintents/lifecycle,
docs.stripe.com/api/refunds/object, docs.stripe.com/payments/partial-authorization.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from appliance.adapters.provider_http import Reply, read
from appliance.adapters.stripe_money import amount_from_stripe
from appliance.model.ids import ProviderReference
from appliance.model.limits import TEXT_CHARACTERS_MAX
from appliance.model.money import Money
from appliance.ports.provider import Answer, Confirmed, Declined, PartlyConfirmed, Refused, Unknown

CANCELED: Final = "payment_canceled"
"""No bank's word: somebody cancelled the payment."""
AMOUNT_DIFFERS: Final = "amount_differs"
_SNAKE: Final = re.compile(r"\A[a-z][a-z0-9_]{0,63}\Z")
Item = TypeVar("Item", bound="Payment | Refunded")
_ObjectId = Annotated[str, Meta(pattern=r"\A[a-z]{2,6}_[0-9A-Za-z_]{1,120}\Z")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a truthful answer must carry.

    Attributes:
        amount: in Stripe's smallest unit.
        is_live: whether our key moves real money; the answer says the same of itself.
    """

    money: Money
    amount: int
    metadata: dict[str, str]
    is_live: bool
    is_captured_later: bool = False
    may_be_partial: bool = False


class PaymentError(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last attempt on a payment failed."""

    code: str | None = None
    decline_code: str | None = None
    message: str | None = None


class PartialAuthorization(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a card's bank approved less than it was asked for."""

    status: str


class CardDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What the card's bank was asked for, and what it approved."""

    amount_authorized: int | None = None
    amount_requested: int | None = None
    partial_authorization: PartialAuthorization | None = None


class MethodDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Of a charge, what is particular to cards."""

    card: CardDetails | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """The charge of a payment, which is shown where it was asked for."""

    payment_method_details: MethodDetails | None = None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a PaymentIntent; others are ignored."""

    id: _ObjectId
    amount: int
    amount_received: int
    amount_capturable: int = 0
    currency: str
    status: str
    livemode: bool
    created: int
    metadata: dict[str, str]
    last_payment_error: PaymentError | None = None
    latest_charge: Charge | str | None = None


class Refunded(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a Refund; it does not say which mode it is in."""

    id: _ObjectId
    amount: int
    currency: str
    status: str
    created: int
    metadata: dict[str, str]
    payment_intent: str


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """One page of a list."""

    object: Literal["list"]
    data: list[Item]
    has_more: bool


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not done, and the payment that it was about."""

    type: str
    code: str | None = None
    decline_code: str | None = None
    message: str | None = None
    param: str | None = None
    payment_intent: Payment | None = None


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal."""

    error: ErrorBody


def authorise_answer(reply: Reply, expected: Expected) -> Answer:
    """What a PaymentIntent, created and confirmed in one request, says."""
    if not reply.is_success:
        return failure_answer(reply, expected)
    payment: Payment | None = read(reply.body, Payment)
    return Unknown(reason="answer_unreadable") if payment is None else payment_answer(payment, expected)


def refund_answer(reply: Reply, expected: Expected, of: ProviderReference) -> Answer:
    """What a Refund says; `of` is the payment that it must belong to."""
    if not reply.is_success:
        return failure_answer(reply, expected)
    refund: Refunded | None = read(reply.body, Refunded)
    return Unknown(reason="answer_unreadable") if refund is None else refunded_answer(refund, expected, of)


def payment_answer(payment: Payment, expected: Expected) -> Confirmed | PartlyConfirmed | Declined | Unknown:
    """Whether `payment` took the money that was asked for, or holds it where that was asked."""
    reference = ProviderReference(payment.id)
    lie = difference(payment.amount, payment.currency, payment.metadata, expected, is_live=payment.livemode)
    if lie == AMOUNT_DIFFERS and is_partly_taken(payment, expected):
        took = Money(amount_from_stripe(payment.amount, expected.money.currency), expected.money.currency)
        return PartlyConfirmed(provider_reference=reference, amount=took, confirmed_ms=payment.created * 1000)
    if lie is not None:
        # The reference is kept out: it may name somebody else's payment.
        return Unknown(reason=lie)
    match payment.status:
        case "succeeded" | "requires_capture" if (payment.status == "succeeded") != expected.is_captured_later:
            had = payment.amount_capturable if expected.is_captured_later else payment.amount_received
            if had != expected.amount:
                return Unknown(reason="amount_differs", provider_reference=reference)
            return Confirmed(provider_reference=reference, amount=expected.money, confirmed_ms=payment.created * 1000)
        case "requires_payment_method" | "canceled" if payment.last_payment_error is not None:
            error = payment.last_payment_error
            return _declined(error.code, error.decline_code, error.message, reference)
        case "canceled":
            return Declined(code=CANCELED, message="The payment was cancelled.", provider_reference=reference)
        case _:
            # processing, requires_action and the like may still end either way.
            return Unknown(reason=snake(payment.status, "status_unknown"), provider_reference=reference)


def is_partly_taken(payment: Payment, expected: Expected) -> bool:
    """Whether it took less because the card's bank approved less: allowed, and said the same in three places.

    The payment's own amount is what was approved then; what was asked for stands on its charge alone
    (docs.stripe.com/payments/partial-authorization, "Verify partial authorization status").
    """
    charge = payment.latest_charge
    details = charge.payment_method_details if isinstance(charge, Charge) else None
    card = None if details is None else details.card
    if not expected.may_be_partial or card is None or card.partial_authorization is None:
        return False
    return (
        card.partial_authorization.status == "partially_authorized"
        and card.amount_requested == expected.amount
        and payment.status == "succeeded"
        and 0 < payment.amount < expected.amount
        and payment.amount == card.amount_authorized == payment.amount_received
    )


def refunded_answer(refund: Refunded, expected: Expected, of: ProviderReference) -> Confirmed | Declined | Unknown:
    """Whether `refund` gave the money back."""
    reference = ProviderReference(refund.id)
    lie = difference(refund.amount, refund.currency, refund.metadata, expected, is_live=expected.is_live)
    if lie is not None:
        return Unknown(reason=lie)
    if refund.payment_intent != of:
        return Unknown(reason="payment_differs")
    match refund.status:
        case "succeeded":
            return Confirmed(provider_reference=reference, amount=expected.money, confirmed_ms=refund.created * 1000)
        case "failed" | "canceled":
            return Declined(
                code=f"refund_{refund.status}",
                message="The card's bank did not take the refund.",
                provider_reference=reference,
            )
        case _:
            return Unknown(reason=f"refund_{snake(refund.status, 'unknown')}", provider_reference=reference)


def failure_answer(reply: Reply, expected: Expected) -> Declined | Refused | Unknown:
    """What a status outside 2xx says."""
    if reply.status == 409:
        return Unknown(reason="key_in_use")
    if reply.status == 429:
        # Rate limits act before execution, but lock timeouts wear the same status.
        return Unknown(reason="rate_limited")
    if reply.status >= 500:
        return Unknown(reason="provider_failed")
    answer: ErrorAnswer | None = read(reply.body, ErrorAnswer)
    if answer is None:
        return Unknown(reason="answer_unreadable")
    match reply.status, answer.error.type:
        case 402, "card_error":
            return _decline_answer(answer.error, expected)
        case 400, "idempotency_error":
            return Unknown(reason="key_reused")
        case ((400 | 401 | 403 | 404), "invalid_request_error") if answer.error.code not in {
            "rate_limit",
            "lock_timeout",
        }:
            return _refusal(reply.status, answer.error)
        case _:
            return Unknown(reason="answer_untyped")


def _decline_answer(error: ErrorBody, expected: Expected) -> Declined | Unknown:
    payment = error.payment_intent
    if payment is None:
        return _declined(error.code, error.decline_code, error.message, None)
    lie = difference(payment.amount, payment.currency, payment.metadata, expected, is_live=payment.livemode)
    if lie is not None:
        return Unknown(reason=lie)
    reference = ProviderReference(payment.id)
    if payment.amount_received != 0 or payment.status not in {"requires_payment_method", "canceled"}:
        return Unknown(reason="decline_contradicts_itself", provider_reference=reference)
    return _declined(error.code, error.decline_code, error.message, reference)


def _declined(
    code: str | None, decline_code: str | None, message: str | None, reference: ProviderReference | None
) -> Declined:
    """`code` is the finer of the two; Stripe writes card errors' messages to be shown to people."""
    return Declined(
        code=snake(decline_code if code == "card_declined" else code, "card_declined"),
        message=(message if message and message.isprintable() else "The card was declined.")[:TEXT_CHARACTERS_MAX],
        provider_reference=reference,
    )


def _refusal(status: int, error: ErrorBody) -> Refused:
    """Names the code and the parameter only: Stripe's own text may quote what we sent."""
    state = error.payment_intent.status if error.payment_intent else ""
    if error.code == "payment_intent_unexpected_state" and state == "succeeded":
        return Refused(code="payment_already_captured", detail="the payment took the money; it can be refunded")
    if error.code == "resource_missing" and error.param == "payment_method":
        return Refused(code="source_unknown", detail="the provider knows no such card: look at the tender's source")
    fallback = {401: "credentials_refused", 403: "permission_refused", 404: "not_found"}.get(status, "request_refused")
    parameter = snake(error.param, "none")
    return Refused(
        code=snake(error.code, fallback),
        detail=f"the provider did not accept the request: status {status}, parameter {parameter}",
    )


def difference(
    amount: int, currency: str, metadata: dict[str, str], expected: Expected, *, is_live: bool
) -> str | None:
    """The first thing that is not as it was asked, or None."""
    if is_live != expected.is_live:
        return "account_mode_differs"
    if any(metadata.get(key) != value for key, value in expected.metadata.items()):
        return "reference_differs"
    if currency != expected.money.currency.lower():
        return "currency_differs"
    if amount != expected.amount:
        return AMOUNT_DIFFERS
    return None


def snake(text: str | None, fallback: str) -> str:
    return text if text is not None and _SNAKE.match(text) else fallback
