"""The card provider of a world: the Stripe twin's money logic, the box's own adapter, and between them a bad network.

Owns what happens to a request on its way. Must never touch money: that is `provisioning/sandbox/stripe_twin_api.py`,
and its answers are read by `appliance/adapters/stripe.py`; only HTTP and the SDK are left out.

A request that has left arrives, whatever becomes of the box that sent it, within `TRAVEL_S_MAX`. The twin forgets an
idempotency key after 24 hours of its time, and a listing may lag behind by `LIST_LAG_S_MAX`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from appliance.adapters.provider_http import Reply
from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_reader import ReaderPayments
from appliance.adapters.stripe_session import StripeSession
from appliance.ports.clock import Clock
from appliance.ports.provider import NotSent, Unknown
from provisioning.sandbox import stripe_twin_api as api
from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters, refusal
from provisioning.sandbox.stripe_twin_routes import route, run_due
from provisioning.sandbox.stripe_twin_store import SavedAnswer, TwinStore
from tests.world.loop import Machine, WorldLoop, hand_over

TRAVEL_S_MAX: Final = 28.0  # the box gives a request 30 s, and counts on none arriving later
LIST_LAG_S_MAX: Final = 20.0
READER_WAIT_MS: Final = 20_000

FAULTS: Final[dict[str, int]] = {
    "drop_request": 3,  # lost before it arrives
    "drop_reply": 6,  # done, and the answer is lost
    "delay": 4,  # done late, mostly after the box has given up
    "delay_unheard": 4,  # done late, while the box was told at once that the connection broke
    "hang": 1,  # never done, never answered
    "error_before": 2,  # 500, nothing done; the next try works
    "error_after": 3,  # done, 500, and the 500 is remembered under the key
    "truncated": 2,  # done; half of the JSON under a 200
    "cut_short": 2,  # done; the connection breaks in the middle of the answer
    "rate_limited": 2,  # 429, nothing done
    "in_use": 1,  # 409
    "wrong_amount": 2,  # done; the answer names another amount
    "wrong_object": 3,  # done; a 200 for somebody else's payment
    "no_connection": 3,  # provably not sent
}
"""What goes wrong in rough weather, by weight."""


@dataclass(slots=True, kw_only=True)
class Weather:
    """How the network to the provider is now: `trouble` is the share of requests that something happens to."""

    trouble: float = 0.0
    is_outage: bool = False
    list_lag_s: float = 0.0


class WorldTwin:
    """The provider itself. It never fails; `note` hears of each movement of money."""

    def __init__(self, clock: Clock, note: Callable[[str], None]) -> None:
        names = count(1)
        self.store = TwinStore(
            Path(":memory:"), now_ms=clock.now_ms, random_hex=lambda size_bytes: f"{next(names):0{2 * size_bytes}x}"
        )
        self._note = note

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle."""
        self._catch_up()
        return api.charges(self.store)

    def given_up(self) -> list[dict[str, Any]]:
        """Every payment that was cancelled."""
        return [each for each in self.store.newest_first("payment_intent") if each["status"] == "canceled"]

    def _catch_up(self) -> None:
        """What happens by itself has happened: banks give up what was held too long."""
        with self.store.transaction():
            run_due(self.store)

    def serve(self, method: str, path: str, parameters: Parameters, key: str | None, *, forget: bool) -> Answered:
        """Do it once for each key; `forget`: what is remembered, and answered, is a 500."""
        self._catch_up()
        digest = hashlib.sha256(json.dumps([path, sorted(parameters.items())]).encode()).hexdigest()
        saved = self.store.saved_answer(key) if key else None
        if saved is not None:
            if saved.digest != digest:
                return refusal("Keys are for one set of parameters.", kind="idempotency_error")
            return Answered(status=saved.status, body=json.loads(saved.body))
        try:
            with self.store.transaction():
                answer = route(self.store, method, path, parameters)
                done = answer
                if forget:
                    answer = refusal("An unknown error occurred.", kind="api_error", status=500)
                if key and answer.is_remembered:
                    self.store.save_answer(
                        key, SavedAnswer(digest=digest, status=answer.status, body=json.dumps(answer.body))
                    )
        except InvalidRequest as error:
            return error.answer
        if method == "POST":
            self._note(f"{path} {parameters.get('amount', '')} under {key} -> {done.status} {done.body.get('id', '')}")
        return answer


class Network:
    """Carries requests between any box and the twin, as the weather has it."""

    def __init__(
        self,
        *,
        loop: WorldLoop,
        twin: WorldTwin,
        twin_clock: Clock,
        randomness: random.Random,
        note: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._twin = twin
        self._twin_clock = twin_clock
        self._random = randomness
        self._note = note
        self._machine = Machine(name="provider", is_wire=True)
        self.weather = Weather()

    async def ask(self, method: str, path: str, parameters: Parameters, key: str | None) -> Reply | NotSent | Unknown:
        """One request, once."""
        fault = self._fault(method)
        if fault:
            self._note(f"{method} {path} meets {fault}")
        if fault == "no_connection":
            return NotSent(reason="connection_failed")
        reply: asyncio.Future[Reply | NotSent | Unknown] = self._loop.create_future()
        travel_s = self._random.uniform(0.01, 0.3)
        if fault.startswith("delay"):
            travel_s = self._random.uniform(1.0, TRAVEL_S_MAX)
        if fault == "delay_unheard":
            self._loop.on(self._machine, 0.1, lambda: hand_over(reply, Unknown(reason="connection_lost")))
        self._loop.on(self._machine, travel_s, lambda: self._arrive(method, path, parameters, key, fault, reply))
        return await reply

    def _fault(self, method: str) -> str:
        if self.weather.is_outage:
            return self._random.choice(("no_connection", "drop_request", "hang"))
        if self._random.random() >= self.weather.trouble:
            return ""
        # Reading meets less: else nothing would ever be found out while the weather lasts.
        if method == "GET" and self._random.random() < 0.5:
            return ""
        return self._random.choices(list(FAULTS), list(FAULTS.values()))[0]

    def _arrive(
        self,
        method: str,
        path: str,
        parameters: Parameters,
        key: str | None,
        fault: str,
        reply: asyncio.Future[Reply | NotSent | Unknown],
    ) -> None:
        """At the provider, whatever became of whoever asked."""
        answered: Answered | None = None
        match fault:
            case "drop_request":
                said: Reply | Unknown | None = Unknown(reason="connection_lost")
            case "hang":
                said = None
            case "error_before":
                said = Reply(status=500, body='{"error": {"type": "api_error"}}')
            case "rate_limited":
                said = Reply(status=429, body='{"error": {"type": "invalid_request_error", "code": "rate_limit"}}')
            case "in_use":
                said = Reply(status=409, body='{"error": {"type": "idempotency_error"}}')
            case _:
                lagging = self._lagging(method, path, parameters)
                answered = self._twin.serve(method, path, lagging, key, forget=fault == "error_after")
                said = self._tell(answered, fault)
        if said is not None:
            self._loop.on(self._machine, self._random.uniform(0.01, 0.3), lambda: hand_over(reply, said))

    def _lagging(self, method: str, path: str, parameters: Parameters) -> Parameters:
        if method == "GET" and path == "/v1/payment_intents" and self.weather.list_lag_s:
            newest = self._twin_clock.now_ms() // 1000 - int(self.weather.list_lag_s)
            return {**parameters, "created[lte]": str(newest)}
        return parameters

    def _tell(self, answered: Answered, fault: str) -> Reply | Unknown:
        body = dict(answered.body)
        match fault:
            case "drop_reply":
                return Unknown(reason="connection_lost")
            case "cut_short":
                return Unknown(reason="answer_cut_short")
            case "wrong_amount" if "amount" in body:
                body["amount"] += 1
            case "wrong_object" if "id" in body:
                body |= {"id": self._twin.store.new_id("pi"), "metadata": {"order": "6735"}}
            case _:
                pass
        text = json.dumps(body)
        if fault == "truncated":
            text = text[: len(text) // 2]
        return Reply(status=answered.status, body=text, date_ms=self._twin_clock.now_ms() // 1000 * 1000)


class NetworkSession(StripeSession):
    """The adapter's session over a `Network`; listings are the real session's."""

    def __init__(self, *, network: Network, clock: Clock) -> None:
        self._network = network
        self._clock = clock
        self.is_live = False

    @override
    async def ask(
        self, method: str, path: str, *, key: str | None = None, **parameters: Any
    ) -> Reply | NotSent | Unknown:
        return await self._network.ask(method.upper(), path, _flat(parameters), key)

    @override
    async def close(self) -> None:
        pass


def open_provider(network: Network, clock: Clock, jitter: random.Random) -> StripeProvider:
    """The box's real adapter on this network."""
    session = NetworkSession(network=network, clock=clock)
    readers = ReaderPayments(session=session, clock=clock, jitter=jitter, wait_ms=READER_WAIT_MS)
    return StripeProvider(session=session, readers=readers)


def _flat(parameters: dict[str, Any]) -> dict[str, str]:
    """As the SDK writes a form: `metadata[name]`, `payment_method_types[0]`, `true`."""
    flat: dict[str, str] = {}
    for name, value in parameters.items():
        match value:
            case bool():
                flat[name] = str(value).lower()
            case dict():
                flat |= {f"{name}[{key}]": str(each) for key, each in value.items()}
            case list():
                flat |= {f"{name}[{index}]": str(each) for index, each in enumerate(value)}
            case _:
                flat[name] = str(value)
    return flat
