"""What an answer of PayPal means; pure, and the only reader of PayPal's JSON.

Must never call anything failed that may have happened: whatever is not exactly understood is `Unknown`.

Rules:
- Only a typed issue under 422 that speaks of the payer's money is a decline; it took none.
- A typed error under 400, 401, 403, 404 or 422 did nothing. 409, 429, 5xx and untyped answers are Unknown.
- That an order was captured before, or a key used otherwise, is Unknown: reading tells what happened.
- Success is believed only when amount, currency and our own names come back as they were sent.

Source: developer.paypal.com/api/orders/v2/definitions/order_status (and "purchase_units[].payments.captures[].status"
there), developer.paypal.com/api/rest/integration/orders-api/troubleshooting,
developer.paypal.com/api/payments/v2/errors,
developer.paypal.com/platforms/checkout/standard/customize/handle-funding-failures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.adapters.decimal_value import is_value_of
from appliance.adapters.provider_http import Reply, left_open, read, time_ms
from appliance.model.ids import ProviderReference
from appliance.model.limits import TEXT_CHARACTERS_MAX
from appliance.model.money import Money
from appliance.ports.provider import Answer, Confirmed, Declined, Refused, Unknown

_Id = Annotated[str, Meta(pattern=r"\A[0-9A-Z]{1,36}\Z")]
_ISSUE: Final = re.compile(r"\A[A-Z][A-Z0-9_]{0,63}\Z")

NOT_TAKEN: Final = frozenset({"CREATED", "SAVED", "APPROVED", "VOIDED", "PAYER_ACTION_REQUIRED"})
"""States of an order whose money was not taken."""
DECLINES: Final = {
    "INSTRUMENT_DECLINED": "The customer's bank or card declined it.",
    "PAYER_CANNOT_PAY": "The customer cannot pay this with PayPal.",
    "PAYER_ACCOUNT_RESTRICTED": "The customer's PayPal account is restricted.",
    "PAYER_ACCOUNT_LOCKED_OR_CLOSED": "The customer's PayPal account is locked or closed.",
    "TRANSACTION_REFUSED": "PayPal refused the payment.",
    "TRANSACTION_BLOCKED_BY_PAYEE": "The shop's own PayPal settings block the payment.",
    "COMPLIANCE_VIOLATION": "PayPal refused the payment.",
}
_UNCLEAR: Final = {
    "ORDER_ALREADY_CAPTURED": "captured_before",
    "DUPLICATE_INVOICE_ID": "captured_before",
    "DUPLICATE_REQUEST_ID": "key_reused",
    "PREVIOUS_REQUEST_IN_PROGRESS": "key_in_use",
    "DUPLICATE_REFUND": "refunded_before",
}
_CODES: Final = {"CAPTURE_FULLY_REFUNDED": "charge_already_refunded"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a truthful answer must carry. Attributes: `custom_prefix`, with which our name of the payment begins."""

    money: Money
    custom_prefix: str


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Money as PayPal writes it."""

    currency_code: str
    value: str

    def is_exactly(self, money: Money) -> bool:
        return self.currency_code == money.currency and is_value_of(self.value, money)


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a capture; others are ignored."""

    id: _Id
    status: str
    amount: Amount
    create_time: str


class Refunded(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a refund."""

    id: _Id
    status: str
    amount: Amount
    create_time: str
    custom_id: str = ""


class Payments(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order."""

    captures: tuple[Captured, ...] = ()
    refunds: tuple[Refunded, ...] = ()


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """The one purchase of an order."""

    amount: Amount
    custom_id: str = ""
    payments: Payments = Payments()


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Where to go on."""

    href: str
    rel: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of an order."""

    id: _Id
    status: str
    purchase_units: Annotated[tuple[Unit, ...], Meta(min_length=1, max_length=1)]
    create_time: str = ""
    links: tuple[Link, ...] = ()

    @property
    def unit(self) -> Unit:
        return self.purchase_units[0]

    @property
    def approval(self) -> str:
        """The address at which the customer agrees; empty when there is none."""
        return next((link.href for link in self.links if link.rel in ("payer-action", "approve")), "")


class _Detail(msgspec.Struct, frozen=True, kw_only=True):
    issue: str = ""
    description: str = ""


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    message: str = ""
    details: tuple[_Detail, ...] = ()


def order_of(reply: Reply, expected: Expected) -> Order | Answer:
    """The order of an answer that is about ours, or what the answer means instead."""
    if not reply.is_success:
        return failure_answer(reply)
    order: Order | None = read(reply.body, Order)
    if order is None:
        return Unknown(reason="answer_unreadable")
    if not order.unit.custom_id.startswith(expected.custom_prefix):
        return Unknown(reason="reference_differs")
    if not order.unit.amount.is_exactly(expected.money):
        return Unknown(reason="amount_differs")
    return order


def taken_answer(order: Order, expected: Expected) -> Answer:
    """What an order says of the taking of its money."""
    reference = ProviderReference(order.id)
    captures = order.unit.payments.captures
    if order.status != "COMPLETED" or len(captures) != 1:
        reason = "still_untaken" if order.status in NOT_TAKEN and not captures else "status_unknown"
        return Unknown(reason=reason, provider_reference=reference)
    capture = captures[0]
    if not capture.amount.is_exactly(expected.money):
        return Unknown(reason="amount_differs", provider_reference=reference)
    created_ms = time_ms(capture.create_time)
    match capture.status:
        case "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED" if created_ms is not None:
            return Confirmed(provider_reference=reference, amount=expected.money, confirmed_ms=created_ms)
        case "DECLINED" | "FAILED":
            return Declined(code="capture_declined", message="PayPal declined it.", provider_reference=reference)
        case "PENDING":
            return Unknown(reason="capture_pending", provider_reference=reference)
        case _:
            return Unknown(reason="status_unknown", provider_reference=reference)


def refunded_answer(refund: Refunded, money: Money, custom_id: str) -> Confirmed | Declined | Unknown:
    """What a refund says; PayPal may take days to give back what was paid by a bank."""
    reference = ProviderReference(refund.id)
    if refund.custom_id != custom_id:
        return Unknown(reason="reference_differs", provider_reference=reference)
    if not refund.amount.is_exactly(money):
        return Unknown(reason="amount_differs", provider_reference=reference)
    created_ms = time_ms(refund.create_time)
    match refund.status:
        case "COMPLETED" if created_ms is not None:
            return Confirmed(provider_reference=reference, amount=money, confirmed_ms=created_ms)
        case "FAILED" | "CANCELLED":
            return Declined(code="refund_failed", message="PayPal did not give it back.", provider_reference=reference)
        case "PENDING":
            return Unknown(reason="refund_pending", provider_reference=reference)
        case _:
            return Unknown(reason="status_unknown", provider_reference=reference)


def failure_answer(reply: Reply) -> Declined | Refused | Unknown:
    """What an answer that is no success means."""
    error: _Error | None = read(reply.body, _Error)
    unclear = left_open(reply.status)
    if unclear is not None:
        return unclear
    if error is None:
        return Unknown(reason="answer_unreadable")
    issues = [each.issue for each in error.details] or [error.name]
    for issue in issues:  # money may have moved, whatever else is wrong as well
        if issue in _UNCLEAR:
            return Unknown(reason=_UNCLEAR[issue])
    issue = issues[0]
    if reply.status == 422 and issue in DECLINES:
        return Declined(code=issue.lower(), message=DECLINES[issue])
    code = _CODES.get(issue, issue.lower() if _ISSUE.match(issue) else "request_refused")
    return Refused(code=code, detail=error.message[:TEXT_CHARACTERS_MAX])
