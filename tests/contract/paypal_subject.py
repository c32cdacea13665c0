"""PayPal as a subject of the contract: before anything is taken a customer agrees."""

from __future__ import annotations

import itertools
from dataclasses import replace

from appliance.adapters.paypal import PayPalProvider
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.ports.provider import Authorise, Offer, Offered, Provider
from provisioning.sandbox.stripe_twin_faults import Fault
from tests.contract.provider_subject import TWIN_FAULTS
from tests.fakes.provider import Switch
from tests.paypal_twin_here import PayPalHere


class PayPalSubject:
    """The adapter on the twin."""

    remembers_declines = False
    knows_what_is_left = True

    def __init__(self, here: PayPalHere, provider: PayPalProvider) -> None:
        self._here = here
        self._offers = provider
        self._numbers = itertools.count(1)
        self.provider: Provider = provider

    async def ready(self, operation: Authorise) -> Authorise:
        key = ProviderKey(f"{operation.provider_key}/offer/{next(self._numbers)}")
        offer = Offer(provider_key=key, reference=operation.reference, amount=operation.amount)
        made = await self._offers.offer(offer)
        self._last = offer
        assert isinstance(made, Offered), made
        self._here.agree(made.provider_reference, "declined" if "Declined" in operation.source else "good")
        return replace(operation, of=made.provider_reference)

    def code_of(self, _code: str) -> str:
        return "instrument_declined"

    async def strike(self, switch: Switch) -> None:
        self._here.twin.faults.add(Fault(fault=TWIN_FAULTS[switch], path="/v2/", method="POST"))

    async def kept_minor(self) -> int:
        return self._here.kept_minor()

    async def cut_line(self) -> None:
        await self._here.cut_line()
        # A connection that was kept open is found dead by this look, not by what is asked next.
        await self._offers.look_at_offer(self._last, ProviderReference("1"))
