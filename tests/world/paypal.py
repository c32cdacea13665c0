"""PayPal in a world: the twin's money logic, the box's own adapter, and customers who agree, decline or dawdle.

Must never touch money: that is `provisioning/sandbox/paypal_twin_api.py`, and its answers are read by
`appliance/adapters/paypal.py`; only HTTP and the bearer token are left out.

A customer acts once a till has shown the address. PayPal forgets a request's id after six hours of its time.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_session import PayPalSession
from appliance.adapters.provider_http import Reply
from appliance.model.ids import ProviderName
from appliance.ports.clock import Clock
from appliance.ports.provider import NotSent, Refused, Unknown
from provisioning.sandbox import paypal_twin_api as api
from provisioning.sandbox.paypal_twin import KEY_AGE_MAX_MS
from provisioning.sandbox.stripe_twin_store import SavedAnswer, TwinStore
from provisioning.sandbox.twin_rest import Answered
from tests.world.loop import Machine, WorldLoop
from tests.world.network import Network, Twin

PAYPAL: Final = ProviderName("paypal")
BASE: Final = "https://www.paypal.com"
CUSTOMER_WAIT_MS: Final = 30_000
CUSTOMERS: Final[dict[str, int]] = {
    "agrees": 6,
    "agrees at last": 2,  # about when the box stops waiting: before, or too late
    "has no money": 2,
    "is looked at": 2,  # agrees, and PayPal takes its time to say whether the capture stands
    "walks away": 2,
}
"""What customers do who were shown an address, by weight."""
_FUNDING: Final = {"has no money": "declined", "is looked at": "pending"}
_REVIEW_S_MAX: Final = 240.0
_ORDER_S_MAX: Final = 3 * 3_600.0
"""developer.paypal.com/payment-methods/uncaptured-payments."""


class PayPalTwin:
    """PayPal itself. `note` hears of each movement of money and of each customer."""

    failures: Final = {
        409: '{"name": "RESOURCE_CONFLICT"}',
        429: '{"name": "RATE_LIMIT_REACHED"}',
        500: '{"name": "INTERNAL_SERVER_ERROR"}',
    }

    def __init__(
        self, *, loop: WorldLoop, clock: Clock, randomness: random.Random, note: Callable[[str], None]
    ) -> None:
        names = count(1)
        self.store = TwinStore(
            Path(":memory:"),
            now_ms=clock.now_ms,
            random_hex=lambda size_bytes: f"{next(names):0{2 * size_bytes}x}",
            key_age_max_ms=KEY_AGE_MAX_MS,
        )
        self._loop = loop
        self._randomness = randomness
        self._note = note
        self._street = Machine(name="customers", is_wire=True)
        self._shown: set[str] = set()

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle."""
        return api.charges(self.store)

    def serve(
        self, method: str, path: str, parameters: Mapping[str, Any], key: str | None, *, forget: bool, lag_s: float
    ) -> tuple[int, dict[str, Any]]:
        """Nothing is listed here, so nothing lags; refusals are not remembered."""
        digest = hashlib.sha256(json.dumps([path, parameters], sort_keys=True).encode()).hexdigest()
        saved = self.store.saved_answer(key) if key else None
        if saved is not None and saved.digest != digest:
            return _answered(api.PayPalRefusal("DUPLICATE_REQUEST_ID").answer)
        if saved is not None:
            return 200, json.loads(saved.body)
        try:
            with self.store.transaction():
                answer = api.route(self.store, method, path, dict(parameters), BASE)
                if key:
                    self.store.save_answer(key, SavedAnswer(digest=digest, status=200, body=json.dumps(answer.body)))
        except api.PayPalRefusal as refusal:
            return _answered(refusal.answer)
        if method == "POST" and path.endswith("/orders"):
            self._loop.on(self._street, _ORDER_S_MAX, lambda: self._forget(answer.body["id"]))
        if method == "POST" and path.endswith("/capture"):
            review_s, is_taken = self._randomness.uniform(1.0, _REVIEW_S_MAX), self._randomness.random() < 0.5
            self._loop.on(self._street, review_s, lambda: self._decide(answer.body["id"], is_taken=is_taken))
        if method == "POST":
            self._note(f"{path} under {key} -> {answer.status} {answer.body.get('id', '')}")
        return (500, json.loads(self.failures[500])) if forget else _answered(answer)

    def lie(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        text = json.dumps(body)
        if fault == "wrong_amount":
            text = text.replace('"value": "', '"value": "1')
        else:
            text = text.replace('"custom_id": "', '"custom_id": "other-')
        lied: dict[str, Any] = json.loads(text)
        return lied

    def show(self, address: str) -> None:
        """A till shows where the customer may agree; the first time somebody looks, somebody decides."""
        order = address.rpartition("=")[2]
        if order in self._shown:
            return
        self._shown.add(order)
        does = self._randomness.choices(list(CUSTOMERS), list(CUSTOMERS.values()))[0]
        if does == "walks away":
            return
        after_s = self._randomness.uniform(0.5, 10.0)
        if does == "agrees at last":
            after_s = CUSTOMER_WAIT_MS / 1_000 * self._randomness.uniform(0.8, 1.2)
        self._loop.on(self._street, after_s, lambda: self._agree(order, _FUNDING.get(does, "good")))

    def _agree(self, order: str, funding: str) -> None:
        with suppress(api.PayPalRefusal), self.store.transaction():
            api.agree(self.store, order, funding)
            self._note(f"customer agrees to {order}, funding {funding}")

    def _decide(self, order: str, *, is_taken: bool) -> None:
        with suppress(api.PayPalRefusal), self.store.transaction():
            api.decide(self.store, order, is_taken=is_taken)
            self._note(f"decides on {order}: {'taken' if is_taken else 'not taken'}")

    def _forget(self, order: str) -> None:
        """One that somebody agreed to is kept: whether its capture was lost only a person could tell then."""
        known = self.store.get("order", order)
        if known is not None and known["status"] == "PAYER_ACTION_REQUIRED":
            with self.store.transaction():
                api.forget(self.store, order)


class NetworkSession(PayPalSession):
    """The adapter's session over a `Network`."""

    def __init__(self, *, network: Network, twin: Twin) -> None:
        self._network = network
        self._twin = twin
        self.base = BASE

    @override
    async def ask(
        self, method: str, path: str, *, key: str | None = None, body: dict[str, Any] | None = None
    ) -> Reply | NotSent | Refused | Unknown:
        return await self._network.ask(self._twin, method, path, body or {}, key)

    @override
    async def close(self) -> None:
        pass


def open_paypal(network: Network, twin: Twin, clock: Clock, jitter: random.Random) -> PayPalProvider:
    """The box's real adapter on this network."""
    session = NetworkSession(network=network, twin=twin)
    return PayPalProvider(session=session, clock=clock, jitter=jitter, customer_wait_ms=CUSTOMER_WAIT_MS)


def _answered(answer: Answered) -> tuple[int, dict[str, Any]]:
    return answer.status, answer.body
