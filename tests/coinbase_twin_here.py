"""The Coinbase twin inside the test's own loop, on a clock that the test moves."""

from __future__ import annotations

import base64
import random
from typing import Any, Final

import msgspec

from appliance.adapters.coinbase import CoinbaseProvider
from appliance.adapters.coinbase_session import CoinbaseSession, CoinbaseSettings
from appliance.config.secret import Secret
from appliance.crypto.signing_key import ed25519_from_seed
from appliance.model.ids import ProviderName
from appliance.model.sale import TenderKind
from appliance.payment.providers import SetUp
from appliance.ports.clock import Clock
from appliance.ports.provider import Provider
from provisioning.sandbox.coinbase_twin import KEY_AGE_MAX_MS, CoinbaseTwin, Customer, Key, Refunds
from provisioning.sandbox.coinbase_twin_api import Paying, charges, pay
from provisioning.sandbox.coinbase_twin_events import Hook
from provisioning.sandbox.twin_delivery import set_hook
from tests.fakes.clock import FakeClock
from tests.twin_here import InLoop, counted_store

NAME: Final = "organizations/of-a-test/apiKeys/one"
STRANGER: Final = "organizations/of-a-test/apiKeys/stranger"
SEED: Final = b"a seed of a test, and no secret."
WEBHOOK_SECRET: Final = "secret-of-a-subscription"
WAIT_MS: Final = 60_000


COINBASE: Final = ProviderName("coinbase")


def takes_usdc(provider: Provider) -> dict[ProviderName, SetUp]:
    """A box's provider of the tender `usdc`."""
    set_up = SetUp(tender=TenderKind.USDC, provider=provider, admit=lambda: None, is_paid_by_customer=True)
    return {COINBASE: set_up}


def key_file(seed: bytes = SEED) -> bytes:
    """An Ed25519 key as the portal shows it: seed and public key."""
    return base64.b64encode(seed + _public(seed)[-32:])


def public_key(seed: bytes = SEED) -> str:
    """As the twin's control door takes it."""
    return base64.b64encode(_public(seed)).decode()


def _public(seed: bytes) -> bytes:
    return ed25519_from_seed(seed).public_key


class CoinbaseHere(InLoop):
    """Names are counted, so every run gives the same ones."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = FakeClock() if clock is None else clock
        self.store = counted_store(self.clock, key_age_max_ms=KEY_AGE_MAX_MS)
        self.twin = CoinbaseTwin(store=self.store, control_token="control")
        for name in (NAME, STRANGER):
            key = Key(name=name, public_key=public_key(), is_stranger=name == STRANGER)
            self.store.keep_note(f"key:{name}", msgspec.to_builtins(key))
        super().__init__(twin=self.twin, store=self.store, charges=charges)

    def session(self, *, name: str = NAME, seed: bytes = SEED, clock: Clock | None = None) -> CoinbaseSession:
        settings = CoinbaseSettings(api_base=self.base, key_name=name, key=Secret(key_file(seed)))
        return CoinbaseSession(settings=settings, clock=clock or self.clock)

    def provider(self, **more: Any) -> CoinbaseProvider:
        """Our adapter, pointed here; closed with the twin."""
        return self.provider_on(self.session(**more))

    def provider_on(self, session: CoinbaseSession) -> CoinbaseProvider:
        """The same on a session that a test made."""
        provider = CoinbaseProvider(
            session=session, clock=self.clock, jitter=random.Random(1), customer_wait_ms=WAIT_MS
        )
        self._providers.append(provider)
        return provider

    def customers(self, **does: Any) -> None:
        """What customers do from now on."""
        self.store.keep_note("customer", msgspec.to_builtins(Customer(**does)))

    def refunds(self, **go: Any) -> None:
        """How refunds go from now on."""
        self.store.keep_note("refunds", msgspec.to_builtins(Refunds(**go)))

    def pay(self, checkout: str, paying: Paying = "good", confirm_ms: int = 0) -> None:
        """The customer pays now."""
        with self.store.transaction():
            pay(self.store, checkout, paying, confirm_ms)

    def checkouts(self) -> list[dict[str, Any]]:
        """Every checkout, the newest first."""
        return self.store.newest_first("checkout")

    def hook(self, **more: Any) -> None:
        """Send webhooks to `received` from now on."""
        set_hook(self.store, Hook(url="http://relay.test/", secret=WEBHOOK_SECRET, **more))
