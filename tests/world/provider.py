"""The card provider of a world: the Stripe twin's money logic, and the box's own adapter on the world's network.

Must never touch money: that is `provisioning/sandbox/stripe_twin_api.py`, and its answers are read by
`appliance/adapters/stripe.py`; only HTTP and the SDK are left out.

The twin forgets an idempotency key after 24 hours of its time, and a listing may lag behind by `LIST_LAG_S_MAX`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
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
from provisioning.sandbox import stripe_twin_readers as readers
from provisioning.sandbox.stripe_twin_events import DELIVER, Hook, set_hook
from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters, refusal
from provisioning.sandbox.stripe_twin_routes import route, run_due
from provisioning.sandbox.stripe_twin_store import SavedAnswer, TwinStore
from tests.world.hooks import SECRET
from tests.world.network import Network, Twin
from tests.world.template import TILLS

LIST_LAG_S_MAX: Final = 20.0
READER_WAIT_MS: Final = 15_000


class WorldTwin:
    """Stripe itself, with a card reader at each till.

    Args:
        note: hears of each movement of money; `tell` of each event that is made of one.
        later: does something after so many seconds: customers act whoever looks.
    """

    failures: Final = {
        409: '{"error": {"type": "idempotency_error"}}',
        429: '{"error": {"type": "invalid_request_error", "code": "rate_limit"}}',
        500: '{"error": {"type": "api_error"}}',
    }

    def __init__(
        self,
        clock: Clock,
        note: Callable[[str], None],
        tell: Callable[[dict[str, Any]], None],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        names = count(1)
        self.store = TwinStore(
            Path(":memory:"), now_ms=clock.now_ms, random_hex=lambda size_bytes: f"{next(names):0{2 * size_bytes}x}"
        )
        self._note = note
        self._tell = tell
        self._later = later
        self.readers = {name: str(self._new_reader()["id"]) for name in TILLS}
        set_hook(self.store, Hook(url="https://box", secret=SECRET))

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle."""
        return api.charges(self.store)

    def let_come(self, till: str, customer: readers.Customer) -> None:
        """Who stands at the till's reader from now on."""
        with self.store.transaction():
            readers.set_customer(self.store, self.readers[till], customer)

    def given_up(self) -> list[dict[str, Any]]:
        """Every payment that was cancelled."""
        return [each for each in self.store.newest_first("payment_intent") if each["status"] == "canceled"]

    def _catch_up(self) -> None:
        """What happens by itself has happened: banks give up what was held too long."""
        with self.store.transaction():
            run_due(self.store)
        self._tell_all()

    def _wait(self, path: str, parameters: Mapping[str, Any]) -> None:
        """Look again when something happens by itself: at a reader, or to money that nobody captures."""
        if path.endswith("/process_payment_intent"):
            customer = readers.customer_of(self.store, path.split("/")[-2])
            for after_ms in (customer.after_ms, customer.after_ms + customer.authorise_ms):
                self._later(after_ms / 1_000 + 0.01, self._catch_up)
        elif parameters.get("capture_method") == "manual":
            for held_ms in (api.HOLD_PRESENT_MS, api.HOLD_ONLINE_MS):  # from when the card was seen
                self._later(held_ms / 1_000 + 60.0, self._catch_up)

    def _tell_all(self) -> None:
        for due in self.store.take_due(DELIVER):
            self._tell(self.store.get("event", due.subject.split()[0]) or {})

    def _new_reader(self) -> dict[str, Any]:
        with self.store.transaction():
            return readers.create(self.store, {"registration_code": "simulated-wpe"}).body

    def serve(
        self, method: str, path: str, parameters: Mapping[str, Any], key: str | None, *, forget: bool, lag_s: float
    ) -> tuple[int, dict[str, Any]]:
        """A forgotten answer is remembered as the 500 that was told."""
        if lag_s and (method, path) == ("GET", "/v1/payment_intents"):
            parameters = {**parameters, "created[lte]": str(self.store.now_ms() // 1000 - int(lag_s))}
        answer = self._serve(method, path, parameters, key, forget=forget)
        if method == "POST":
            self._tell_all()
            self._wait(path, parameters)
        return answer.status, answer.body

    def lie(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        match fault:
            case "wrong_amount" if "amount" in body:
                return {**body, "amount": body["amount"] + 1}
            case "wrong_object" if "id" in body:
                return {**body, "id": self.store.new_id("pi"), "metadata": {"order": "6735"}}
            case _:
                return body

    def _serve(self, method: str, path: str, parameters: Parameters, key: str | None, *, forget: bool) -> Answered:
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


class NetworkSession(StripeSession):
    """The adapter's session over a `Network`; listings are the real session's."""

    def __init__(self, *, network: Network, twin: Twin, clock: Clock) -> None:
        self._network = network
        self._twin = twin
        self._clock = clock
        self.is_live = False

    @override
    async def ask(
        self, method: str, path: str, *, key: str | None = None, **parameters: Any
    ) -> Reply | NotSent | Unknown:
        return await self._network.ask(self._twin, method.upper(), path, _flat(parameters), key)

    @override
    async def close(self) -> None:
        pass


def open_cards(network: Network, twin: Twin, clock: Clock, jitter: random.Random) -> StripeProvider:
    """The box's real adapter on this network."""
    session = NetworkSession(network=network, twin=twin, clock=clock)
    at_readers = ReaderPayments(session=session, clock=clock, jitter=jitter, wait_ms=READER_WAIT_MS)
    return StripeProvider(session=session, readers=at_readers)


def _flat(parameters: Mapping[str, Any]) -> dict[str, str]:
    """As the SDK writes a form: `metadata[name]`, `payment_method_types[0]`, `true`."""
    flat: dict[str, str] = {}
    for name, value in parameters.items():
        match value:
            case bool():
                flat[name] = str(value).lower()
            case dict():
                flat |= _flat({f"{name}[{key}]": each for key, each in value.items()})
            case list():
                flat |= _flat({f"{name}[{index}]": each for index, each in enumerate(value)})
            case _:
                flat[name] = str(value)
    return flat
