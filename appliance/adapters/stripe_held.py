"""What an answer of Stripe means about money that a card's bank holds: captured, given up, or held still; pure.

A payment can be captured or cancelled once. Where Stripe refuses because it was done before, the payment inside the
refusal says what was done: an attempt whose answer was lost must not make the next one look failed. An answer is
believed only of the payment that was asked about: neither request has names of its own that could come back.

Source: docs.stripe.com/api/payment_intents/capture, docs.stripe.com/api/payment_intents/cancel,
docs.stripe.com/payments/place-a-hold-on-a-payment-method.
"""

from __future__ import annotations

from typing import Final

from appliance.adapters.provider_http import Reply, read
from appliance.adapters.stripe_money import amount_for_stripe
from appliance.adapters.stripe_reply import (
    CANCELED,
    ErrorAnswer,
    Expected,
    Payment,
    difference,
    failure_answer,
    snake,
)
from appliance.model.ids import ProviderReference
from appliance.model.money import Money
from appliance.ports.provider import Answer, Confirmed, Declined, Unknown

STILL_HELD: Final = "still_held"
_UNEXPECTED_STATE: Final = "payment_intent_unexpected_state"


def capture_answer(reply: Reply, expected: Expected, captured: Money, of: ProviderReference) -> Answer:
    """What a PaymentIntent says that we asked to capture, or read; `of` is the payment that it must be."""
    payment = _believed(reply, expected, of)
    if not isinstance(payment, Payment):
        return payment
    reference = ProviderReference(payment.id)
    match payment.status:
        case "succeeded" if payment.amount_received == amount_for_stripe(captured):
            return Confirmed(provider_reference=reference, amount=captured, confirmed_ms=payment.created * 1000)
        case "succeeded":
            return Unknown(reason="amount_differs", provider_reference=reference)
        case "canceled":
            return Declined(
                code=CANCELED,
                message="The bank holds the money no longer.",
                provider_reference=reference,
            )
        case _:
            return _unfinished(payment)


def cancel_answer(reply: Reply, expected: Expected, of: ProviderReference) -> Answer:
    """What a PaymentIntent says that we asked to cancel, or read; `of` is the payment that it must be."""
    payment = _believed(reply, expected, of)
    if not isinstance(payment, Payment):
        return payment
    reference = ProviderReference(payment.id)
    match payment.status:
        case "canceled":
            return Confirmed(provider_reference=reference, amount=expected.money, confirmed_ms=payment.created * 1000)
        case "succeeded" if not reply.is_success:
            return failure_answer(reply, expected)
        case "succeeded":
            return Declined(
                code="payment_already_captured",
                message="The payment took the money; it can be refunded.",
                provider_reference=reference,
            )
        case _:
            return _unfinished(payment)


def _believed(reply: Reply, expected: Expected, of: ProviderReference) -> Payment | Answer:
    """The payment of an answer that is about ours, or what the answer means instead."""
    payment = payment_in(reply)
    if payment is None:
        return Unknown(reason="answer_unreadable") if reply.is_success else failure_answer(reply, expected)
    if payment.id != of:
        return Unknown(reason="payment_differs")
    lie = difference(payment.amount, payment.currency, payment.metadata, expected, is_live=payment.livemode)
    return payment if lie is None else Unknown(reason=lie)


def payment_in(reply: Reply) -> Payment | None:
    """The payment of an answer, or inside a refusal that is about its state."""
    if reply.is_success:
        payment: Payment | None = read(reply.body, Payment)
        return payment
    refused: ErrorAnswer | None = read(reply.body, ErrorAnswer) if reply.status == 400 else None
    return refused.error.payment_intent if refused is not None and refused.error.code == _UNEXPECTED_STATE else None


def _unfinished(payment: Payment) -> Unknown:
    reason = STILL_HELD if payment.status == "requires_capture" else snake(payment.status, "status_unknown")
    return Unknown(reason=reason, provider_reference=ProviderReference(payment.id))
