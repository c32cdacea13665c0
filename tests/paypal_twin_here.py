"""The PayPal twin inside the test's own loop, on a clock that the test moves."""

from __future__ import annotations

import random
from typing import Any, Final

from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_session import PayPalSession, PayPalSettings
from appliance.adapters.paypal_statement import PayPalStatement
from appliance.config.secret import Secret
from appliance.ports.clock import Clock
from provisioning.sandbox.paypal_twin import KEY_AGE_MAX_MS, PayPalTwin
from provisioning.sandbox.paypal_twin_api import agree, charges, decide, forget, route
from provisioning.sandbox.paypal_twin_events import Hook
from provisioning.sandbox.paypal_twin_report import Lateness, Plant, plant, set_lateness
from provisioning.sandbox.twin_delivery import set_hook
from tests.fakes.clock import FakeClock
from tests.twin_here import InLoop, counted_store

CLIENT: Final = "client-of-a-test"
SECRET: Final = "secret-of-a-test"
WEBHOOK_ID: Final = "1AB23456CD789012E"


class PayPalHere(InLoop):
    """Names are counted, so every run gives the same ones."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = FakeClock() if clock is None else clock
        self.store = counted_store(self.clock, key_age_max_ms=KEY_AGE_MAX_MS)
        self.twin = PayPalTwin(store=self.store, control_token="control")
        super().__init__(twin=self.twin, store=self.store, charges=charges)

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

    def statement(self, **more: Any) -> PayPalStatement:
        """Our reader of the transaction search, pointed here; whoever asks for it closes it."""
        return PayPalStatement(session=self.session(**more), clock=self.clock)

    def take(self, value: str, custom_id: str, *, currency: str = "EUR", funding: str = "good") -> tuple[str, str]:
        """A payer paid so much; the names of order and capture."""
        unit = {"custom_id": custom_id, "amount": {"currency_code": currency, "value": value}}
        with self.store.transaction():
            body = {"intent": "CAPTURE", "purchase_units": [unit]}
            order = route(self.store, "POST", "/v2/checkout/orders", body, self.base).body["id"]
            agree(self.store, order, funding)
            done = route(self.store, "POST", f"/v2/checkout/orders/{order}/capture", {}, self.base).body
        return order, done["purchase_units"][0]["payments"]["captures"][0]["id"]

    def give_back(self, capture: str, value: str, custom_id: str, *, currency: str = "EUR") -> str:
        """Money of a capture went back; the refund's name."""
        body = {"custom_id": custom_id, "amount": {"currency_code": currency, "value": value}}
        with self.store.transaction():
            refund = route(self.store, "POST", f"/v2/payments/captures/{capture}/refund", body, self.base).body
        return str(refund["id"])

    def decide(self, order: str, *, is_taken: bool) -> None:
        """PayPal ends its review of a capture."""
        with self.store.transaction():
            decide(self.store, order, is_taken=is_taken)

    def forget(self, order: str) -> None:
        """PayPal knows this order no more."""
        with self.store.transaction():
            forget(self.store, order)

    def plant(self, capture: str, what: Any, **more: str) -> None:
        """Let the transaction search differ from what happened."""
        with self.store.transaction():
            plant(self.store, Plant(capture=capture, what=what, **more))

    def show(self, capture: str) -> None:
        """Let what was gone be listed."""
        line = self.store.get("transaction", f"report-{capture}")
        assert line is not None
        self.store.put("transaction", {**line, "transaction_status": "S"})

    def list_after(self, late_ms: int) -> None:
        """Let transactions be listed so late."""
        set_lateness(self.store, Lateness(late_ms=late_ms))

    def agree(self, order: str, funding: str = "good") -> None:
        """The payer approves."""
        with self.store.transaction():
            agree(self.store, order, funding)

    def hook(self, **more: Any) -> None:
        """Send webhooks to `received` from now on."""
        set_hook(self.store, Hook(url="http://relay.test/", webhook_id=WEBHOOK_ID, **more))
