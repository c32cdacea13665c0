"""The PayPal twin inside the test's own loop, on a clock that the test moves."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_session import PayPalSession, PayPalSettings
from appliance.config.secret import Secret
from appliance.ports.clock import Clock
from provisioning.sandbox.paypal_twin import KEY_AGE_MAX_MS, PayPalTwin
from provisioning.sandbox.paypal_twin_api import agree, charges
from provisioning.sandbox.paypal_twin_events import Hook, deliver_due, set_hook
from provisioning.sandbox.stripe_twin_store import TwinStore
from tests.fakes.clock import FakeClock

CLIENT: Final = "client-of-a-test"
SECRET: Final = "secret-of-a-test"
WEBHOOK_ID: Final = "1AB23456CD789012E"


class PayPalHere:
    """Use as a context. Names are counted, so every run gives the same ones. `received`: webhooks, body and headers."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = FakeClock() if clock is None else clock
        numbers = itertools.count(1)
        self.store = TwinStore(
            Path(":memory:"),
            now_ms=self.clock.now_ms,
            random_hex=lambda size: f"{next(numbers):0{2 * size}x}",
            key_age_max_ms=KEY_AGE_MAX_MS,
        )
        self.twin = PayPalTwin(store=self.store, control_token="control")
        self.received: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200
        self.base = ""
        self._runner: web.AppRunner | None = None
        self._providers: list[PayPalProvider] = []

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.twin.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = self.twin.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.twin.faults.clear()
        for provider in self._providers:
            await provider.close()
        await self.cut_line()
        self.twin.close()
        self.store.close()

    async def cut_line(self) -> None:
        """Nobody listens here any more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def session(self, *, client: str = CLIENT, secret: str = SECRET) -> PayPalSession:
        settings = PayPalSettings(
            api_base=self.base, client_id=client, client_secret=Secret(secret.encode()), customer_wait_ms=60_000
        )
        return PayPalSession(settings=settings, clock=self.clock)

    def provider(self, **more: Any) -> PayPalProvider:
        """Our adapter, pointed here; closed with the twin."""
        provider = PayPalProvider(
            session=self.session(**more), clock=self.clock, jitter=random.Random(1), customer_wait_ms=60_000
        )
        self._providers.append(provider)
        return provider

    def agree(self, order: str, funding: str = "good") -> None:
        """The payer approves."""
        with self.store.transaction():
            agree(self.store, order, funding)

    def hook(self, **more: Any) -> None:
        """Send webhooks to `received` from now on."""
        set_hook(self.store, Hook(url="http://relay.test/", webhook_id=WEBHOOK_ID, **more))

    async def deliver(self) -> int:
        """Send the webhooks that are due; how many requests that took."""

        async def post(_url: str, body: bytes, headers: dict[str, str]) -> int:
            self.received.append((body, headers))
            return self.status

        return await deliver_due(self.store, post, self.base)

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle."""
        return charges(self.store)

    def kept_minor(self) -> int:
        return sum(charge["captured"] - charge["refunded"] for charge in self.charges())
