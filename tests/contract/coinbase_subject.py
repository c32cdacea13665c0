"""Coinbase as a subject of the contract: customers who pay as soon as there is something to pay."""

from __future__ import annotations

from typing import Final

from appliance.adapters.coinbase import CoinbaseProvider
from appliance.model.ids import ProviderReference
from appliance.ports.provider import Authorise, Provider
from provisioning.sandbox.stripe_twin_faults import Fault
from tests.coinbase_twin_here import CoinbaseHere
from tests.contract.provider_subject import TWIN_FAULTS
from tests.fakes.provider import Switch

NOBODYS: Final = ProviderReference("0" * 24)


class CoinbaseSubject:
    """The adapter on the twin."""

    knows_what_is_left = True
    remembers_declines = True

    def __init__(self, here: CoinbaseHere, provider: CoinbaseProvider) -> None:
        self._here = here
        self.provider: Provider = provider

    async def ready(self, operation: Authorise) -> Authorise:
        self._here.customers(does="pay", paying="fails" if "Declined" in operation.source else "good")
        self._last = operation
        return operation

    def code_of(self, _code: str) -> str:
        return "payment_failed"

    async def strike(self, switch: Switch) -> None:
        self._here.twin.faults.add(Fault(fault=TWIN_FAULTS[switch], path="/api/v1/checkouts", method="POST"))

    async def kept_minor(self) -> int:
        return self._here.kept_minor()

    async def cut_line(self) -> None:
        await self._here.cut_line()
        # A connection that was kept open is found dead by this look, not by what is asked next.
        await self.provider.find(self._last, since_ms=0, known=NOBODYS)
