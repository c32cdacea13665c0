"""What the Stripe twin does with a request: payments, refunds, lists; plain functions on the store.

Money is conserved here and only here: a payment is charged once, refunds never exceed what is left of it.

Source: docs.stripe.com/api/payment_intents, docs.stripe.com/api/refunds, docs.stripe.com/api/pagination,
docs.stripe.com/api/errors, docs.stripe.com/declines/codes, docs.stripe.com/testing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from provisioning.sandbox.stripe_twin_store import TwinStore

Parameters = Mapping[str, str]

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

_THREE_DECIMALS: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
_WHOLE_HUNDREDS: Final = frozenset({"isk"})
_AMOUNT_MAX: Final = 99_999_999
_CREATE: Final = frozenset(
    {"amount", "currency", "capture_method", "confirm", "description", "error_on_requires_action", "payment_method"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Status and JSON. `is_remembered`: execution began, so the answer is kept under the idempotency key."""

    status: int
    body: dict[str, Any]
    is_remembered: bool = True


class InvalidRequest(Exception):
    """The parameters failed validation: nothing was executed, nothing is remembered."""

    def __init__(self, message: str, *, code: str = "", parameter: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.answer = refusal(message, code=code, parameter=parameter, status=status, is_remembered=False)


def refusal(
    message: str,
    *,
    code: str = "",
    parameter: str = "",
    status: int = 400,
    kind: str = "invalid_request_error",
    is_remembered: bool = True,
    **more: Any,
) -> Answered:
    """An error object as Stripe words it."""
    error: dict[str, Any] = {"message": message, "type": kind, **more}
    error |= {name: value for name, value in (("code", code), ("param", parameter)) if value}
    return Answered(status=status, body={"error": error}, is_remembered=is_remembered)


def create_payment(store: TwinStore, parameters: Parameters) -> Answered:
    _known(parameters, _CREATE, ("metadata[", "payment_method_types["))
    currency = _required(parameters, "currency")
    if len(currency) != 3 or not currency.islower():
        raise InvalidRequest(f"Invalid currency: {currency}.", parameter="currency")
    amount = _amount(parameters, currency)
    payment: dict[str, Any] = {
        "id": store.new_id("pi"),
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "capture_method": parameters.get("capture_method", "automatic"),
        "created": store.now_ms() // 1000,
        "currency": currency,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": _metadata(parameters),
        "payment_method": parameters.get("payment_method"),
        "payment_method_types": _array(parameters, "payment_method_types") or ["card"],
        "status": "requires_confirmation" if "payment_method" in parameters else "requires_payment_method",
    }
    if parameters.get("confirm") == "true":
        return _charge(store, payment)
    store.put("payment_intent", payment)
    return Answered(status=200, body=payment)


def confirm_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    _known(parameters, frozenset({"payment_method", "error_on_requires_action"}))
    payment = _payment(store, identifier)
    if payment["status"] not in ("requires_confirmation", "requires_payment_method"):
        return _unexpected(payment, "confirm")
    return _charge(store, {**payment, "payment_method": parameters.get("payment_method", payment["payment_method"])})


def capture_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    _known(parameters, frozenset({"amount_to_capture"}))
    payment = _payment(store, identifier)
    if payment["status"] != "requires_capture":
        return _unexpected(payment, "capture")
    amount = int(parameters.get("amount_to_capture", payment["amount_capturable"]))
    if not 0 < amount <= payment["amount_capturable"]:
        return refusal("The amount to capture is too large.", code="amount_too_large", parameter="amount_to_capture")
    payment |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
    store.put("payment_intent", payment)
    return Answered(status=200, body=payment)


def cancel_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    _known(parameters, frozenset({"cancellation_reason"}))
    payment = _payment(store, identifier)
    if payment["status"] in ("succeeded", "canceled", "processing"):
        return _unexpected(payment, "cancel")
    payment |= {"status": "canceled", "amount_capturable": 0, "canceled_at": store.now_ms() // 1000}
    store.put("payment_intent", payment)
    return Answered(status=200, body=payment)


def retrieve(store: TwinStore, kind: str, identifier: str) -> Answered:
    body = store.get(kind, identifier)
    return Answered(status=200, body=body) if body else _missing(kind, identifier)


def create_refund(store: TwinStore, parameters: Parameters) -> Answered:
    _known(parameters, frozenset({"payment_intent", "amount", "reason"}), ("metadata[",))
    payment = _payment(store, _required(parameters, "payment_intent"))
    if payment["status"] != "succeeded":
        return refusal(
            f"This PaymentIntent ({payment['id']}) does not have a successful charge to refund.", payment_intent=payment
        )
    left = payment["amount_received"] - refunded_amount(store, payment["id"])
    if left == 0:
        return refusal(f"Charge {payment['latest_charge']} has already been refunded.", code="charge_already_refunded")
    amount = _amount(parameters, payment["currency"]) if "amount" in parameters else left
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
        "metadata": _metadata(parameters),
        "payment_intent": payment["id"],
        "reason": parameters.get("reason"),
        "status": "succeeded",
    }
    store.put("refund", refund)
    return Answered(status=200, body=refund)


def listing(store: TwinStore, kind: str, parameters: Parameters) -> Answered:
    """Newest first; `starting_after`, `ending_before`, `limit`, `created[...]`, and for refunds `payment_intent`."""
    _known(parameters, frozenset({"limit", "starting_after", "ending_before", "payment_intent"}), ("created[",))
    parent = parameters.get("payment_intent", "")
    items = [item for item in store.newest_first(kind, parent=parent) if _is_within(item["created"], parameters)]
    limit = int(parameters.get("limit", "10"))
    if not 1 <= limit <= 100:
        raise InvalidRequest("This value must be between 1 and 100.", parameter="limit")
    identifiers = [item["id"] for item in items]
    for cursor in ("starting_after", "ending_before"):
        if cursor in parameters and parameters[cursor] not in identifiers:
            raise InvalidRequest(f"No such object: {parameters[cursor]}", code="resource_missing", parameter=cursor)
    has_more = False
    if "ending_before" in parameters:
        before = items[: identifiers.index(parameters["ending_before"])]
        page, has_more = before[-limit:], len(before) > limit
    else:
        start = identifiers.index(parameters["starting_after"]) + 1 if "starting_after" in parameters else 0
        page, has_more = items[start : start + limit], len(items) > start + limit
    return Answered(status=200, body={"object": "list", "url": f"/v1/{kind}s", "has_more": has_more, "data": page})


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


def _charge(store: TwinStore, payment: dict[str, Any]) -> Answered:
    method = payment["payment_method"]
    if method in DECLINING:
        code, decline_code, message = DECLINING[method]
        error = {"type": "card_error", "code": code, "decline_code": decline_code, "message": message}
        payment |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": error}
        store.put("payment_intent", payment)
        return refusal(
            message, code=code, status=402, kind="card_error", decline_code=decline_code, payment_intent=payment
        )
    if method not in SUCCEEDING:
        raise InvalidRequest(f"No such PaymentMethod: '{method}'", code="resource_missing", parameter="payment_method")
    payment |= {"latest_charge": store.new_id("ch"), "last_payment_error": None}
    if payment["capture_method"] == "manual":
        payment |= {"status": "requires_capture", "amount_capturable": payment["amount"]}
    else:
        payment |= {"status": "succeeded", "amount_received": payment["amount"]}
    store.put("payment_intent", payment)
    return Answered(status=200, body=payment)


def _payment(store: TwinStore, identifier: str) -> dict[str, Any]:
    payment = store.get("payment_intent", identifier)
    if payment is None:
        raise InvalidRequest(
            f"No such payment_intent: '{identifier}'", code="resource_missing", parameter="intent", status=404
        )
    return payment


def _missing(kind: str, identifier: str) -> Answered:
    return refusal(f"No such {kind}: '{identifier}'", code="resource_missing", parameter="id", status=404)


def _unexpected(payment: dict[str, Any], verb: str) -> Answered:
    message = f"You cannot {verb} this PaymentIntent because it has a status of {payment['status']}."
    return refusal(message, code="payment_intent_unexpected_state", payment_intent=payment)


def _known(parameters: Parameters, names: frozenset[str], prefixes: tuple[str, ...] = ()) -> None:
    for name in parameters:
        if name not in names and not name.startswith(prefixes or ("\0",)):
            raise InvalidRequest(f"Received unknown parameter: {name}", code="parameter_unknown", parameter=name)


def _required(parameters: Parameters, name: str) -> str:
    if not parameters.get(name):
        raise InvalidRequest(f"Missing required param: {name}.", code="parameter_missing", parameter=name)
    return parameters[name]


def _amount(parameters: Parameters, currency: str) -> int:
    text = _required(parameters, "amount")
    if not text.isascii() or not text.isdigit():
        raise InvalidRequest(f"Invalid integer: {text}", code="parameter_invalid_integer", parameter="amount")
    amount = int(text)
    if not 1 <= amount <= _AMOUNT_MAX:
        raise InvalidRequest("Invalid amount.", code="amount_too_large" if amount else "amount_too_small")
    if (currency in _WHOLE_HUNDREDS and amount % 100) or (currency in _THREE_DECIMALS and amount % 10):
        raise InvalidRequest("Invalid amount for this currency.", code="invalid_charge_amount", parameter="amount")
    return amount


def _metadata(parameters: Parameters) -> dict[str, str]:
    found = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in parameters.items()
        if name.startswith("metadata[")
    }
    if len(found) > 50 or any(len(name) > 40 or len(value) > 500 for name, value in found.items()):
        raise InvalidRequest("Metadata has at most 50 keys of 40 and values of 500 characters.", parameter="metadata")
    return found


def _array(parameters: Parameters, name: str) -> list[str]:
    return [value for key, value in parameters.items() if key.startswith(f"{name}[")]


def _is_within(created: int, parameters: Parameters) -> bool:
    bounds = {"gte": int.__ge__, "gt": int.__gt__, "lte": int.__le__, "lt": int.__lt__}
    return all(
        compare(created, int(parameters[f"created[{name}]"]))
        for name, compare in bounds.items()
        if f"created[{name}]" in parameters
    )
