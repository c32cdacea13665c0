"""What the Stripe twin does with payments and refunds; plain functions on the store.

Money is conserved here and only here: a payment is charged once, refunds never exceed what is left of it.

Source: docs.stripe.com/api/payment_intents, docs.stripe.com/api/refunds, docs.stripe.com/declines/codes,
docs.stripe.com/testing, docs.stripe.com/payments/partial-authorization.
"""

from __future__ import annotations

from typing import Any, Final

from provisioning.sandbox.stripe_twin_balance import book_charge, book_refund
from provisioning.sandbox.stripe_twin_charges import CHARGE, charge_of, expanded
from provisioning.sandbox.stripe_twin_events import emit
from provisioning.sandbox.stripe_twin_form import (
    Answered,
    InvalidRequest,
    Parameters,
    amount_of,
    array_of,
    metadata_of,
    refusal,
    refuse_unknown,
    required,
)
from provisioning.sandbox.stripe_twin_store import Due, TwinStore

SUCCEEDING: Final = frozenset(
    f"pm_card_{name}" for name in ("visa", "visa_debit", "mastercard", "mastercard_debit", "amex", "discover", "jcb")
)
DECLINING: Final[dict[str, tuple[str, str, str]]] = {
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline", "Your card was declined."),
    "pm_card_visa_chargeDeclinedInsufficientFunds": (
        "card_declined",
        "insufficient_funds",
        "Your card has insufficient funds.",
    ),
    "pm_card_visa_chargeDeclinedLostCard": ("card_declined", "lost_card", "Your card was declined."),
    "pm_card_visa_chargeDeclinedStolenCard": ("card_declined", "stolen_card", "Your card was declined."),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", "expired_card", "Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc": ("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "pm_card_chargeDeclinedProcessingError": (
        "processing_error",
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
    ),
    "pm_card_authenticationRequired": (
        "authentication_required",
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
}
"""Test payment method -> code, decline_code, message."""

PARTIAL: Final = "pm_card_debit_partialAuthorization"
"""Approves 70 % of the amount, rounded down, where a partial authorization was requested; else it has too little
(docs.stripe.com/payments/partial-authorization, "Test your integration")."""
PARTIAL_PERCENT: Final = 70
REQUESTED: Final = "payment_method_options[card][request_partial_authorization]"
LAPSE: Final = "lapse"
HOLD_PRESENT_MS: Final = 2 * 24 * 3_600_000
HOLD_ONLINE_MS: Final = 7 * 24 * 3_600_000
_KEPT: Final = "payment_method"
_CREATE: Final = frozenset(
    {
        "amount",
        "currency",
        "capture_method",
        "confirm",
        "description",
        "error_on_requires_action",
        "payment_method",
        "customer",
        REQUESTED,
    }
)


def create_payment(store: TwinStore, parameters: Parameters) -> Answered:
    if array_of(parameters, "payment_method_types"):
        message = "Passing payment_method_types is no longer supported; use allowed_payment_method_types."
        raise InvalidRequest(message, code="payment_method_types_no_longer_supported")
    refuse_unknown(parameters, _CREATE, ("metadata[", "allowed_payment_method_types[", "expand["))
    if parameters.get(REQUESTED, "never") not in ("if_available", "never"):
        raise InvalidRequest("Must be one of if_available or never.", parameter=REQUESTED)
    currency = required(parameters, "currency")
    if len(currency) != 3 or not currency.islower():
        raise InvalidRequest(f"Invalid currency: {currency}.", parameter="currency")
    amount = amount_of(parameters, currency)
    payment: dict[str, Any] = {
        "id": store.new_id("pi"),
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "canceled_at": None,
        "capture_method": parameters.get("capture_method", "automatic"),
        "created": store.now_ms() // 1000,
        "currency": currency,
        "customer": parameters.get("customer"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata_of(parameters),
        "payment_method": parameters.get("payment_method"),
        "payment_method_types": array_of(parameters, "allowed_payment_method_types") or ["card"],
        "payment_method_options": {"card": {"request_partial_authorization": parameters.get(REQUESTED, "never")}},
        "status": "requires_confirmation" if "payment_method" in parameters else "requires_payment_method",
    }
    if parameters.get("confirm") == "true":
        return expanded(store, _charge(store, payment), parameters)
    store.put("payment_intent", payment)
    return Answered(status=200, body=payment)


def confirm_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    refuse_unknown(parameters, frozenset({"payment_method", "error_on_requires_action"}))
    payment = payment_of(store, identifier)
    if payment["status"] not in ("requires_confirmation", "requires_payment_method"):
        return _unexpected(payment, "confirm")
    return _charge(store, {**payment, "payment_method": parameters.get("payment_method", payment["payment_method"])})


def capture_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    refuse_unknown(parameters, frozenset({"amount_to_capture"}))
    payment = payment_of(store, identifier)
    if payment["status"] != "requires_capture":
        return _unexpected(payment, "capture")
    amount = int(parameters.get("amount_to_capture", payment["amount_capturable"]))
    if not 0 < amount <= payment["amount_capturable"]:
        return refusal("The amount to capture is too large.", code="amount_too_large", parameter="amount_to_capture")
    payment |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
    store.put("payment_intent", payment)
    book_charge(store, payment)
    emit(store, "payment_intent.succeeded", payment)
    return Answered(status=200, body=payment)


def cancel_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    refuse_unknown(parameters, frozenset({"cancellation_reason"}))
    payment = payment_of(store, identifier)
    if payment["status"] in ("succeeded", "canceled", "processing"):
        return _unexpected(payment, "cancel")
    return Answered(status=200, body=_cancel(store, payment))


def create_refund(store: TwinStore, parameters: Parameters) -> Answered:
    refuse_unknown(parameters, frozenset({"payment_intent", "amount", "reason"}), ("metadata[",))
    payment = payment_of(store, required(parameters, "payment_intent"))
    if payment["status"] != "succeeded":
        return refusal(
            f"This PaymentIntent ({payment['id']}) does not have a successful charge to refund.", payment_intent=payment
        )
    left = payment["amount_received"] - refunded_amount(store, payment["id"])
    if left == 0:
        return refusal(f"Charge {payment['latest_charge']} has already been refunded.", code="charge_already_refunded")
    amount = amount_of(parameters, payment["currency"]) if "amount" in parameters else left
    if amount > left:
        return refusal(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", parameter="amount"
        )
    refund = {
        "id": store.new_id("re"),
        "object": "refund",
        "amount": amount,
        "charge": payment["latest_charge"],
        "created": store.now_ms() // 1000,
        "currency": payment["currency"],
        "metadata": metadata_of(parameters),
        "payment_intent": payment["id"],
        "reason": parameters.get("reason"),
        "status": "succeeded",
    }
    store.put("refund", refund)
    book_refund(store, refund)
    emit(store, "refund.created", refund)
    return Answered(status=200, body=refund)


def refunded_amount(store: TwinStore, payment_id: str) -> int:
    """How much of a payment was given back."""
    return sum(refund["amount"] for refund in store.newest_first("refund", parent=payment_id))


def charges(store: TwinStore) -> list[dict[str, Any]]:
    """The money oracle: every payment that took money, oldest first."""
    return [
        {
            "payment_intent": payment["id"],
            "charge": payment["latest_charge"],
            "amount": payment["amount"],
            "captured": payment["amount_received"],
            "refunded": refunded_amount(store, payment["id"]),
            "currency": payment["currency"],
            "created": payment["created"],
            "metadata": payment["metadata"],
        }
        for payment in reversed(store.newest_first("payment_intent"))
        if payment["status"] in ("succeeded", "requires_capture")
    ]


def charge_present(store: TwinStore, payment: dict[str, Any], *, method: str, tip: int | None) -> dict[str, str] | None:
    """A reader saw a card: charge it, with the tip chosen there (None: nobody was asked). Why not, if declined."""
    if tip is not None and method not in DECLINING:
        payment = {**payment, "amount": payment["amount"] + tip, "amount_details": {"tip": {"amount": tip}}}
    error: dict[str, str] | None = _charge(store, {**payment, "payment_method": method}).body.get("error")
    return error


def lapse(store: TwinStore, identifier: str) -> None:
    """Nobody captured in time: the authorisation is given up."""
    payment = payment_of(store, identifier)
    if payment["status"] == "requires_capture":
        _cancel(store, payment)


def _cancel(store: TwinStore, payment: dict[str, Any]) -> dict[str, Any]:
    payment |= {"status": "canceled", "amount_capturable": 0, "canceled_at": store.now_ms() // 1000}
    store.put("payment_intent", payment)
    emit(store, "payment_intent.canceled", payment)
    return payment


def _charge(store: TwinStore, payment: dict[str, Any]) -> Answered:
    method = payment["payment_method"]
    requested = payment["amount"]
    is_partial = _is_partial_requested(payment)
    if method in DECLINING or (method == PARTIAL and not is_partial):
        code, decline_code, message = DECLINING.get(method, DECLINING["pm_card_visa_chargeDeclinedInsufficientFunds"])
        error = {"type": "card_error", "code": code, "decline_code": decline_code, "message": message}
        payment |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": error}
        store.put("payment_intent", payment)
        emit(store, "payment_intent.payment_failed", payment)
        return refusal(
            message, code=code, status=402, kind="card_error", decline_code=decline_code, payment_intent=payment
        )
    if method == PARTIAL:
        payment |= {"amount": requested * PARTIAL_PERCENT // 100}
    elif method not in SUCCEEDING and not _is_kept(store, method, payment["customer"]):
        raise InvalidRequest(f"No such PaymentMethod: '{method}'", code="resource_missing", parameter="payment_method")
    payment |= {"latest_charge": store.new_id("ch"), "last_payment_error": None}
    if payment["capture_method"] == "manual":
        payment |= {"status": "requires_capture", "amount_capturable": payment["amount"]}
        age_ms = HOLD_PRESENT_MS if "card_present" in payment["payment_method_types"] else HOLD_ONLINE_MS
        store.schedule(Due(at_ms=store.now_ms() + age_ms, what=LAPSE, subject=payment["id"]))
    else:
        payment |= {"status": "succeeded", "amount_received": payment["amount"]}
    store.put("payment_intent", payment)
    store.put(CHARGE, charge_of(payment, requested, is_partial=is_partial))
    is_captured = payment["status"] == "succeeded"
    if is_captured:
        book_charge(store, payment)
    emit(store, "payment_intent.succeeded" if is_captured else "payment_intent.amount_capturable_updated", payment)
    return Answered(status=200, body=payment)


def keep_method(store: TwinStore) -> dict[str, Any]:
    """A card that a customer left with the shop before: a payment method that is attached to a customer."""
    method = {"id": store.new_id("pm_1Kept"), "customer": store.new_id("cus")}
    store.put(_KEPT, method)
    return method


def _is_kept(store: TwinStore, method: str, customer: str | None) -> bool:
    """Whether a customer left this card. It is good with its customer alone (docs.stripe.com/api/payment_methods)."""
    kept = store.get(_KEPT, method)
    if kept is not None and kept["customer"] != customer:
        message = (
            f"The payment method `{method}` supplied belongs to a Customer. Please include the Customer in the"
            " `customer` parameter on the PaymentIntent."
        )
        raise InvalidRequest(message, parameter="payment_method")
    return kept is not None


def _is_partial_requested(payment: dict[str, Any]) -> bool:
    options: dict[str, str] = payment["payment_method_options"]["card"]
    return options["request_partial_authorization"] == "if_available"


def payment_of(store: TwinStore, identifier: str) -> dict[str, Any]:
    payment = store.get("payment_intent", identifier)
    if payment is None:
        raise InvalidRequest(
            f"No such payment_intent: '{identifier}'", code="resource_missing", parameter="intent", status=404
        )
    return payment


def _unexpected(payment: dict[str, Any], verb: str) -> Answered:
    message = f"You cannot {verb} this PaymentIntent because it has a status of {payment['status']}."
    return refusal(message, code="payment_intent_unexpected_state", payment_intent=payment)
