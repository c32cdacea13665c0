"""Webhooks of a world: what the card provider tells by itself, and what others pretend that it told.

Owns how deliveries travel and which answer of the box is right. Must never be needed: with all of it lost, every
payment ends as well, only later.

* Genuine ones come soon, late, twice, in another order or never; refused ones come again.
* Recorded ones are played again; forged ones carry a wrong signature; and the provider's own signature stands under
  events about payments of somebody else, and under lies about ours (another program with the same account wrote them).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.adapters.stripe_webhook import TOLERANCE_S
from appliance.ports.clock import Clock
from provisioning.sandbox.stripe_twin_events import signature
from tests.world.books import Books
from tests.world.loop import Machine, WorldLoop

SECRET: Final = "whsec_worldworldworld"
RETRY_S: Final = 5.0
TRIES_MAX: Final = 4
WAYS: Final[dict[str, int]] = {"soon": 10, "late": 3, "twice": 3, "lost": 3}
KEPT: Final = 8

Take = Callable[[bytes, dict[str, str]], str]
"""The box's answer to a delivery: empty when it was taken, else why it was refused; `down` when it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Bytes on their way, and when they were signed; `is_forged` by somebody without the secret."""

    body: bytes
    signature: str
    signed_s: int
    is_forged: bool = False


@dataclass(kw_only=True, eq=False)
class Relay:
    """Brings deliveries to the box, and asks of each answer whether it was right."""

    loop: WorldLoop
    clock: Clock
    box_clock: Clock
    randomness: random.Random
    books: Books
    take: Take
    recorded: list[Delivery] = field(default_factory=list)
    _wire: Machine = field(default_factory=lambda: Machine(name="relay", is_wire=True))
    _made: int = 0

    def tell(self, event: dict[str, Any]) -> None:
        """The provider made an event."""
        way = self.randomness.choices(list(WAYS), list(WAYS.values()))[0]
        if way == "lost":
            return
        for _ in range(2 if way == "twice" else 1):
            delay_s = self.randomness.uniform(5.0, 90.0) if way == "late" else self.randomness.uniform(0.01, 2.0)
            self.loop.on(self._wire, delay_s, lambda: self._deliver(self._sign(event), 1))

    def play_again(self) -> None:
        """Somebody who recorded a delivery sends it once more, as it was."""
        if self.recorded:
            self._deliver(self.randomness.choice(self.recorded), TRIES_MAX)

    def forge(self, about: dict[str, Any]) -> None:
        """An event that says that `about` is paid, signed without the secret."""
        event = self._event(about)
        body = json.dumps(event).encode()
        signed_s = self.clock.now_ms() // 1_000
        old = self.randomness.choice(self.recorded).signature if self.recorded else ""
        forged = self.randomness.choice((signature("whsec_guessedguessed", signed_s, body), old, f"t={signed_s}"))
        self._deliver(Delivery(body=body, signature=forged, signed_s=signed_s, is_forged=True), TRIES_MAX)

    def lie(self, about: dict[str, Any]) -> None:
        """An event that says that `about` is paid, under the provider's own signature."""
        self._deliver(self._sign(self._event(about)), TRIES_MAX)

    def _event(self, about: dict[str, Any]) -> dict[str, Any]:
        self._made += 1
        return {
            "id": f"evt_world{self._made}",
            "object": "event",
            "type": "payment_intent.succeeded",
            "livemode": False,
            "created": self.clock.now_ms() // 1_000,
            "data": {"object": {"object": "payment_intent", "status": "succeeded", **about}},
        }

    def _sign(self, event: dict[str, Any]) -> Delivery:
        """Each attempt has a time and a signature of its own."""
        body, signed_s = json.dumps(event).encode(), self.clock.now_ms() // 1_000
        return Delivery(body=body, signature=signature(SECRET, signed_s, body), signed_s=signed_s)

    def _deliver(self, delivery: Delivery, attempt: int) -> None:
        said = self.take(delivery.body, {"stripe-signature": delivery.signature})
        if said == "down" and attempt >= TRIES_MAX:
            return
        expected = self._expected(delivery)
        if said not in ("down", "webhooks_busy", expected):
            self.books.violate("lost", f"a webhook that is {expected or 'good'} was answered {said or 'as good'}")
        if not delivery.is_forged and said == "":
            self.recorded = [*self.recorded[-KEPT:], delivery]
        if said and not delivery.is_forged and attempt < TRIES_MAX:
            event = json.loads(delivery.body)
            self.loop.on(self._wire, RETRY_S * attempt, lambda: self._deliver(self._sign(event), attempt + 1))

    def _expected(self, delivery: Delivery) -> str:
        if delivery.is_forged:
            return "webhook_forged"
        is_late = abs(self.box_clock.now_ms() // 1_000 - delivery.signed_s) > TOLERANCE_S
        return "webhook_late" if is_late else ""
