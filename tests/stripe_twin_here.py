"""The Stripe twin inside the test's own loop, on a clock that the test moves, with the real SDK as its client."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, Final, Self

import stripe
from typing_extensions import override

from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_session import StripeSettings
from appliance.config.secret import Secret
from appliance.ports.clock import Clock
from provisioning.sandbox.stripe_twin import StripeTwin
from provisioning.sandbox.stripe_twin_api import charges
from provisioning.sandbox.stripe_twin_events import Hook, set_hook
from provisioning.sandbox.stripe_twin_readers import Customer, set_customer
from tests.fakes.clock import FakeClock
from tests.twin_here import InLoop, counted_store

KEY: Final = "sk_test_ofATest1"
SECRET: Final = "whsec_ofATestThatSignsIt"


class TwinHere(InLoop):
    """Names are counted, so every run gives the same ones."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = FakeClock() if clock is None else clock
        self.store = counted_store(self.clock)
        self.twin = StripeTwin(store=self.store, control_token="control")
        super().__init__(twin=self.twin, store=self.store, charges=charges)
        self._http: stripe.AIOHTTPClient | None = None

    @override
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._http = stripe.AIOHTTPClient()
        return self

    @override
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.twin.faults.clear()
        if self._http is not None:
            await self._http.close_async()  # type: ignore[no-untyped-call]  # the SDK left it unannotated
        await super().__aexit__(kind, error, trace)

    def sdk(self, key: str = KEY) -> stripe.StripeClient:
        """Stripe's own client, pointed here."""
        return stripe.StripeClient(
            key, base_addresses={"api": self.base}, max_network_retries=0, http_client=self._http
        )

    async def provider(self, key: str = KEY, **more: Any) -> StripeProvider:
        """Our adapter, pointed here; closed with the twin."""
        settings = StripeSettings(api_base=self.base, api_key=Secret(key.encode()), **more)
        provider = await StripeProvider.open(settings=settings, clock=self.clock, jitter=random.Random(1))
        self._providers.append(provider)
        return provider

    async def reader(self, **customer: Any) -> str:
        """A reader with somebody at it."""
        made = await self.sdk().v1.terminal.readers.create_async(
            {"registration_code": "simulated-wpe", "label": "counter"}
        )
        self.set_customer(made.id, **customer)
        return made.id

    def set_customer(self, reader: str, **customer: Any) -> None:
        with self.store.transaction():
            set_customer(self.store, reader, Customer(**customer))

    def hook(self, **more: Any) -> None:
        """Send webhooks to `received` from now on."""
        set_hook(self.store, Hook(url="http://relay.test/", secret=SECRET, **more))
