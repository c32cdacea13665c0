"""The internet of a world: between the box and whoever moves money for it, as the weather has it.

Owns what happens to a request on its way. Must never know what is asked: a `Twin` does it.

A request that has left arrives, whatever becomes of the box that sent it, within `TRAVEL_S_MAX`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance.adapters.provider_http import Reply
from appliance.ports.clock import Clock
from appliance.ports.provider import NotSent, Unknown
from tests.world.loop import Machine, WorldLoop, hand_over

TRAVEL_S_MAX: Final = 28.0  # the box gives a request 30 s, and counts on none arriving later

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
LIES: Final = frozenset({"wrong_amount", "wrong_object"})


@dataclass(slots=True, kw_only=True)
class Weather:
    """How the network to the provider is now: `trouble` is the share of requests that something happens to."""

    trouble: float = 0.0
    is_outage: bool = False
    list_lag_s: float = 0.0


class Twin(Protocol):
    """A provider itself; it never fails."""

    @property
    def failures(self) -> Mapping[int, str]:
        """How it words what went wrong on its side, by status."""
        ...

    def serve(
        self, method: str, path: str, parameters: Mapping[str, Any], key: str | None, *, forget: bool, lag_s: float
    ) -> tuple[int, dict[str, Any]]:
        """Do it once for each key: status and answer.

        Args:
            forget: what is answered is a 500.
            lag_s: so much of the newest a listing does not show yet.
        """
        ...

    def lie(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        """The answer with another amount (`wrong_amount`), or about somebody else's payment (`wrong_object`)."""
        ...


class Network:
    """Carries requests between any box and the twin, as the weather has it."""

    def __init__(
        self,
        *,
        loop: WorldLoop,
        twin_clock: Clock,
        randomness: random.Random,
        note: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._twin_clock = twin_clock
        self._random = randomness
        self._note = note
        self._machine = Machine(name="provider", is_wire=True)
        self.weather = Weather()

    async def ask(
        self, twin: Twin, method: str, path: str, parameters: Mapping[str, Any], key: str | None
    ) -> Reply | NotSent | Unknown:
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
        self._loop.on(self._machine, travel_s, lambda: self._arrive(twin, method, path, parameters, key, fault, reply))
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
        twin: Twin,
        method: str,
        path: str,
        parameters: Mapping[str, Any],
        key: str | None,
        fault: str,
        reply: asyncio.Future[Reply | NotSent | Unknown],
    ) -> None:
        """At the provider, whatever became of whoever asked."""
        match fault:
            case "drop_request":
                said: Reply | Unknown | None = Unknown(reason="connection_lost")
            case "hang":
                said = None
            case "error_before":
                said = Reply(status=500, body=twin.failures[500])
            case "rate_limited":
                said = Reply(status=429, body=twin.failures[429])
            case "in_use":
                said = Reply(status=409, body=twin.failures[409])
            case _:
                lag_s = self.weather.list_lag_s
                status, body = twin.serve(method, path, parameters, key, forget=fault == "error_after", lag_s=lag_s)
                said = self._tell(status, twin.lie(body, fault) if fault in LIES else body, fault)
        if said is not None:
            self._loop.on(self._machine, self._random.uniform(0.01, 0.3), lambda: hand_over(reply, said))

    def _tell(self, status: int, body: dict[str, Any], fault: str) -> Reply | Unknown:
        match fault:
            case "drop_reply":
                return Unknown(reason="connection_lost")
            case "cut_short":
                return Unknown(reason="answer_cut_short")
            case _:
                text = json.dumps(body)
        if fault == "truncated":
            text = text[: len(text) // 2]
        return Reply(status=status, body=text, date_ms=self._twin_clock.now_ms() // 1000 * 1000)
