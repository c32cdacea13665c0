"""Bugs of waiting for customers: at PayPal's page, at a card reader."""

from __future__ import annotations

from appliance.adapters.paypal import PayPalProvider
from appliance.model.ids import ProviderReference
from appliance.ports import provider as port
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


@bug("An order that says nothing of a capture took nothing.", seed=1)
def call_an_unread_order_untaken() -> None:
    right = PayPalProvider._find_taken

    async def untaken(self: PayPalProvider, operation: port.Authorise) -> port.Found | port.Absent | port.Unknown:
        found = await right(self, operation)
        return port.Absent(as_of_ms=self._clock.now_ms()) if isinstance(found, port.Unknown) else found

    put(PayPalProvider, _find_taken=untaken)
