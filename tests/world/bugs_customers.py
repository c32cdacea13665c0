"""Bugs of waiting for customers: at PayPal's page, at a card reader."""

from __future__ import annotations

from appliance.adapters import paypal
from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_reply import Expected as TakenExpected
from appliance.adapters.paypal_reply import Order, taken_answer
from appliance.adapters.stripe_reader import ReaderPayments, WaitingAtReader
from appliance.adapters.stripe_reply import Expected
from appliance.model.ids import ProviderReference
from appliance.ports import provider as port
from tests.fakes.clock import START_MS
from tests.world.bug import bug, put


@bug("The customer agreed, so the money is taken before he changes his mind.", seed=29)
def take_what_was_agreed_at_once() -> None:
    right = PayPalProvider.await_customer

    async def hasty(
        self: PayPalProvider, operation: port.Offer, of: ProviderReference
    ) -> port.Confirmed | port.Declined | port.Unknown:
        answer = await right(self, operation, of)
        if isinstance(answer, port.Confirmed):
            await self._session.ask("POST", f"/v2/checkout/orders/{of}/capture", key=f"{of}-capture", body={})
        return answer

    put(PayPalProvider, await_customer=hasty)


@bug("The reader says that it failed, so no card was charged.", seed=4)
def believe_the_reader() -> None:
    async def as_told(
        self: ReaderPayments, expected: Expected, waiting: WaitingAtReader, refusal: port.Declined
    ) -> port.Answer:
        return refusal

    put(ReaderPayments, _withdraw=as_told)


@bug("A payment that nobody watches any more is cancelled by the provider some day.", seed=39)
def leave_a_payment_at_its_reader() -> None:
    async def gone(
        self: ReaderPayments, expected: Expected, reader: str, reference: ProviderReference
    ) -> port.Declined:
        return port.Declined(code="customer_timeout", message="No card was shown in time.")

    put(ReaderPayments, end_left=gone)


@bug("PayPal took the money, it only looks at it once more.", seed=89)
def call_a_pending_capture_taken() -> None:
    right = taken_answer

    def taken(order: Order, expected: TakenExpected) -> port.Answer:
        answer = right(order, expected)
        if answer == port.Unknown(reason="capture_pending", provider_reference=ProviderReference(order.id)):
            return port.Confirmed(
                provider_reference=ProviderReference(order.id), amount=expected.money, confirmed_ms=START_MS
            )
        return answer

    put(paypal, taken_answer=taken)
