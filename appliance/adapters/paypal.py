"""PayPal, Orders v2, in our own words: the customer agrees to an order, then its money is taken, once.

What an answer means is `paypal_reply`'s, how it travels `paypal_session`'s. Must never retry, never send what moves
money without our own key, and never raise for what a network or PayPal did.

An order takes and holds nothing; only our capture of it takes money, and PayPal captures an order once. Orders cannot
be listed, and the transaction search is late by hours; the order's own name, durable before the capture is
sent, is what an answer that was lost is looked up by. The order also lists its refunds.

Source: developer.paypal.com/sdk/orders/v2/orders-capture, developer.paypal.com/api/rest/reference/idempotency,
developer.paypal.com/api/orders/v2/definitions/order_status, developer.paypal.com/checkout/manage-payment (refunds),
developer.paypal.com/payment-methods/uncaptured-payments (an order that nobody captures is given up after 3 hours).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from typing_extensions import override

from appliance.adapters.paypal_money import value_for_paypal
from appliance.adapters.paypal_reply import (
    Expected,
    Order,
    Refunded,
    failure_answer,
    order_of,
    refunded_answer,
    taken_answer,
)
from appliance.adapters.paypal_session import PayPalSession
from appliance.adapters.provider_http import Reply, in_time, leads_to, read, time_ms, why
from appliance.adapters.waiting import CustomerProvider, End, Waiting
from appliance.model.ids import ProviderReference
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Absent,
    AcceptedOffline,
    Answer,
    Authorise,
    Basis,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Offer,
    Offered,
    Offers,
    Operation,
    PartlyConfirmed,
    Reference,
    Refund,
    Refused,
    Unknown,
)

_ORDERS: Final = "/v2/checkout/orders"
_CUSTOM_ID_MAX: Final = 127  # api/orders/v2: purchase_units[].custom_id
_REFERENCE: Final = re.compile(r"\A[0-9A-Z]{1,36}\Z")  # it becomes part of a path
ORDER_GONE: Final = "order_gone"
_TAKEN_ELSEWHERE: Final = "captured_by_somebody_else"
_HOLDS_NOTHING: Final = Refused(code="holds_nothing", detail="money at PayPal is taken at once or not at all")


class PayPalProvider(CustomerProvider, Offers):
    """One PayPal account. Every answer takes equally long, and an order has a name: no window in time is listed."""

    def __init__(self, *, session: PayPalSession, clock: Clock, jitter: random.Random, customer_wait_ms: int) -> None:
        super().__init__(clock=clock, jitter=jitter, customer_wait_ms=customer_wait_ms)
        self._session = session

    @property
    @override
    def customer_ms(self) -> int:
        return self._wait_ms

    @override
    def patience_ms(self, operation: Operation) -> int:
        return PROVIDER_DEADLINE_MS

    @override
    async def offer(self, operation: Offer) -> Offered | Refused | NotSent | Unknown:
        custom_id, value = _custom_id(operation.reference), value_for_paypal(operation.amount)
        if isinstance(value, Refused):
            return value
        if len(custom_id) > _CUSTOM_ID_MAX:
            return Refused(code="reference_too_long", detail="the log's name is too long for PayPal's custom_id")
        unit = {
            "custom_id": custom_id,
            # PayPal refuses a second capture under one invoice_id, so this is one more guard against charging twice.
            "invoice_id": operation.reference.operation_id,
            "amount": {"currency_code": operation.amount.currency, "value": value},
        }
        context = {"user_action": "PAY_NOW", "shipping_preference": "NO_SHIPPING"}
        body = {
            "intent": "CAPTURE",
            "purchase_units": [unit],
            "payment_source": {"paypal": {"experience_context": context}},
        }
        reply = await self._session.ask("POST", _ORDERS, key=operation.provider_key, body=body)
        if not isinstance(reply, Reply):
            return reply
        order = order_of(reply, _expected(operation))
        if isinstance(order, Order):
            if not leads_to(order.approval, domain="paypal.com", base=self._session.base):
                return Refused(code="approval_missing", detail="the order has no address of PayPal to agree at")
            return Offered(provider_reference=ProviderReference(order.id), show=order.approval)
        if isinstance(order, Declined | Confirmed | PartlyConfirmed | AcceptedOffline):
            return Refused(code="offer_declined", detail="PayPal declined the order")
        return order

    @override
    async def await_customer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        waiting, taken = Waiting(reference=of), Unknown(reason=_TAKEN_ELSEWHERE, provider_reference=of)

        async def look() -> Confirmed | Declined | Unknown | None:
            answer = await self._agreed(operation, of)
            return None if isinstance(answer, Unknown) and answer != taken else answer

        with self._customers.await_one(operation.provider_key, waiting):
            told: Confirmed | Declined | Unknown | End = await self._until_told(look, waiting)
        return _declined(told, of) if isinstance(told, End) else told

    @override
    async def look_at_offer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        answer = await self._agreed(operation, of, is_left=True)
        if isinstance(answer, Unknown) and answer.reason == ORDER_GONE:
            # PayPal forgets an order that nobody captured. Only this box captures it, under an intent of its own, and
            # an offer without an end has none: no money was taken, whatever became of it, and none will be.
            return replace(_declined(ORDER_GONE, of), basis=Basis.ABSENCE)
        return answer

    @override
    async def authorise(self, operation: Authorise) -> Answer:
        if operation.is_captured_later:
            return _HOLDS_NOTHING
        of = operation.of or ""
        if not _REFERENCE.match(of):
            return Refused(code="reference_malformed", detail="nothing that the customer agreed to at PayPal")
        reply = await self._session.ask("POST", f"{_ORDERS}/{of}/capture", key=operation.provider_key, body={})
        if not isinstance(reply, Reply):
            return reply
        expected = _expected(operation)
        order = order_of(reply, expected)
        if not isinstance(order, Order):
            return order
        if order.id != of:  # refunds would go to what the answer names
            return Unknown(reason="reference_differs", provider_reference=ProviderReference(of))
        return taken_answer(order, expected)

    @override
    async def refund(self, operation: Refund) -> Answer:
        value = value_for_paypal(operation.amount)
        if isinstance(value, Refused):
            return value
        order = await self._order(operation.of)
        if not isinstance(order, _Read):
            # Only reading went wrong: the refund itself was not sent.
            return NotSent(reason=order.reason) if isinstance(order, Unknown) else order
        captures = order.order.unit.payments.captures
        if not captures:
            return Refused(code="payment_not_captured", detail="the order took no money")
        body: dict[str, Any] = {
            "amount": {"currency_code": operation.amount.currency, "value": value},
            "custom_id": _custom_id(operation.reference),
            "invoice_id": operation.reference.operation_id,
        }
        path = f"/v2/payments/captures/{captures[0].id}/refund"
        reply = await self._session.ask("POST", path, key=operation.provider_key, body=body)
        return _refund_answer(reply, operation) if isinstance(reply, Reply) else reply

    @override
    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        match operation:
            case Authorise():
                return await self._find_taken(operation)
            case Refund() if known is not None:
                return await self._find_refund(operation, known)
            case Refund():
                return await self._find_listed(operation)
            case _:
                return Unknown(reason=_HOLDS_NOTHING.code)

    @override
    async def close(self) -> None:
        await self._session.close()

    async def _agreed(
        self, operation: Offer, of: ProviderReference, *, is_left: bool = False
    ) -> Confirmed | Declined | Unknown:
        read_order = await self._order(of)
        if not isinstance(read_order, _Read):
            return Unknown(reason=why(read_order), provider_reference=of)
        order, date_ms = read_order.order, read_order.date_ms
        unit, made_ms = order.unit, time_ms(order.create_time)
        if not unit.custom_id.startswith(_expected(operation).custom_prefix):
            return Unknown(reason="reference_differs", provider_reference=of)
        if not unit.amount.is_exactly(operation.amount):
            return Unknown(reason="amount_differs", provider_reference=of)
        if order.status == "COMPLETED":
            return Unknown(reason=_TAKEN_ELSEWHERE, provider_reference=of)
        if is_left and made_ms is not None and date_ms > made_ms + self._wait_ms:
            # Both times are PayPal's. Whoever agreed so long ago has left, and is not charged now.
            return _declined("customer_timeout", of)
        match order.status:
            case "APPROVED":
                return Confirmed(provider_reference=of, amount=operation.amount, confirmed_ms=date_ms)
            case "VOIDED":
                return _declined("offer_voided", of)
            case _:
                return Unknown(reason="customer_asked", provider_reference=of)

    async def _find_taken(self, operation: Authorise) -> Found | Absent | Unknown:
        if operation.of is None:
            return Unknown(reason="reference_malformed")
        read_order = await self._order(operation.of)
        if not isinstance(read_order, _Read):
            return Unknown(reason=why(read_order), provider_reference=operation.of)
        expected = _expected(operation)
        order = order_of(read_order.reply, expected)
        answer = taken_answer(order, expected) if isinstance(order, Order) else order
        if isinstance(answer, Confirmed | Declined):
            return Found(answer=answer)
        if isinstance(answer, Unknown) and answer.reason == "still_untaken":
            return Absent(as_of_ms=read_order.date_ms)
        return Unknown(reason=why(answer), provider_reference=operation.of)

    async def _find_refund(self, operation: Refund, known: ProviderReference) -> Found | Unknown:
        if not _REFERENCE.match(known):
            return Unknown(reason="reference_malformed")
        reply = await in_time(self._session.ask("GET", f"/v2/payments/refunds/{known}"))
        answer = _refund_answer(reply, operation) if isinstance(reply, Reply) else reply
        if isinstance(answer, Confirmed) or (isinstance(answer, Declined) and answer.provider_reference is not None):
            return Found(answer=answer)
        return Unknown(reason=why(answer), provider_reference=known)

    async def _find_listed(self, operation: Refund) -> Found | Absent | Unknown:
        read_order = await self._order(operation.of)
        if not isinstance(read_order, _Read):
            return Unknown(reason=why(read_order))
        custom_id, refunds = _custom_id(operation.reference), read_order.order.unit.payments.refunds
        ours = [refund for refund in refunds if refund.custom_id == custom_id]
        if len(ours) > 1:
            return Unknown(reason="found_more_than_once")
        if not ours:
            return Absent(as_of_ms=read_order.date_ms)
        answer = refunded_answer(ours[0], operation.amount, custom_id)
        return answer if isinstance(answer, Unknown) else Found(answer=answer)

    async def _order(self, of: ProviderReference) -> _Read | NotSent | Refused | Unknown:
        """The order `of` as it is now, whatever it says."""
        if not _REFERENCE.match(of):
            return Refused(code="reference_malformed", detail="the payment's name is not one that PayPal gives")
        reply = await in_time(self._session.ask("GET", f"{_ORDERS}/{of}"))
        if not isinstance(reply, Reply):
            return reply
        order: Order | None = read(reply.body, Order) if reply.is_success else None
        if order is not None and reply.date_ms is not None and order.id == of:
            return _Read(order=order, date_ms=reply.date_ms, reply=reply)
        answer = Unknown(reason="answer_unreadable") if reply.is_success else failure_answer(reply)
        if reply.status == 404 and isinstance(answer, Refused):  # PayPal itself says so, and nothing on the way to it
            return replace(answer, code=ORDER_GONE)
        return Unknown(reason=answer.code) if isinstance(answer, Declined) else answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    order: Order
    date_ms: int
    reply: Reply


def _expected(operation: Offer | Authorise) -> Expected:
    reference = operation.reference
    prefix = f"{reference.log_origin} {reference.payment_key}/"
    return Expected(money=operation.amount, custom_prefix=prefix)


def _custom_id(reference: Reference) -> str:
    return f"{reference.log_origin} {reference.operation_id}"


def _refund_answer(reply: Reply, operation: Refund) -> Answer:
    if not reply.is_success:
        return failure_answer(reply)
    refund: Refunded | None = read(reply.body, Refunded)
    if refund is None:
        return Unknown(reason="answer_unreadable")
    return refunded_answer(refund, operation.amount, _custom_id(operation.reference))


def _declined(code: str, of: ProviderReference) -> Declined:
    messages = {
        "customer_timeout": "The customer did not agree in time.",
        "payment_aborted": "The till stopped waiting.",
        "offer_voided": "PayPal withdrew the order.",
        ORDER_GONE: "PayPal no longer knows the order; nothing was taken.",
    }
    return Declined(code=code, message=messages[code], provider_reference=of)
