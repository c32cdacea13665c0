"""Customers who are waited for: whoever waits can be hurried and made to give up, by the names of what it waits for.

Must never decide what the waiting ends with: that is the provider's adapter's, which looks again when its bell rings.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from typing_extensions import override

from appliance.model.ids import ProviderKey, ProviderReference
from appliance.ports.clock import Clock
from appliance.ports.provider import Provider
from appliance.runtime.nap import nap

_T = TypeVar("_T")
_PAUSE_FIRST_MS: Final = 1_000
_PAUSE_MAX_MS: Final = 4_000
EARLY_MAX: Final = 256


class End(StrEnum):
    """Why nobody waits for a customer any longer; also the payment's code."""

    GIVEN_UP = "payment_aborted"
    TIME_OVER = "customer_timeout"


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A customer who is waited for now. Ring `bell` to look at once.

    Attributes:
        reference: the provider's name for what the customer was asked; empty while it has none.
    """

    reference: str = ""
    is_given_up: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)


async def until_told(
    look: Callable[[], Awaitable[_T | None]], waiting: Waiting, *, clock: Clock, jitter: random.Random, wait_ms: int
) -> _T | End:
    """`look` again and again, at once when the bell rings, until it tells something or nobody waits any longer."""
    ends_ms, pause_ms = clock.monotonic_ms() + wait_ms, _PAUSE_FIRST_MS
    while True:
        told = await look()
        if told is not None:
            return told
        if waiting.is_given_up:
            return End.GIVEN_UP
        left_ms = ends_ms - clock.monotonic_ms()
        if left_ms <= 0:
            return End.TIME_OVER
        await nap(clock, min(jitter.randint(pause_ms // 2, pause_ms), left_ms), waiting.bell)
        pause_ms = min(pause_ms * 3 // 2, _PAUSE_MAX_MS)


class WaitingCustomers:
    """Everybody who is waited for at one provider, by the key that was sent."""

    def __init__(self) -> None:
        self._waiting: dict[ProviderKey, Waiting] = {}
        self._early: dict[ProviderKey, None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._waiting

    @contextmanager
    def await_one(self, key: ProviderKey, waiting: Waiting) -> Iterator[None]:
        """Whoever calls can be hurried and given up inside the block; one who was given up before is so at once."""
        self._waiting[key] = waiting
        if key in self._early:
            del self._early[key]
            waiting.is_given_up = True
        try:
            yield
        finally:
            del self._waiting[key]

    def give_up(self, key: ProviderKey) -> None:
        """Wait no longer for this customer, nor begin to: he may not be waited for yet, as while an order is made."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.is_given_up = True
            waiting.bell.set()
            return
        self._early[key] = None
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    def hurry(self, reference: ProviderReference) -> bool:
        """Look at once; False when nobody waits for anything of this name."""
        waiting = next((each for each in self._waiting.values() if each.reference == reference), None)
        if waiting is not None:
            waiting.bell.set()
        return waiting is not None


class CustomerProvider(Provider):
    """A provider whose customers act at an address that the till shows: who waits for them, and for how long."""

    def __init__(self, *, clock: Clock, jitter: random.Random, customer_wait_ms: int) -> None:
        self._clock = clock
        self._jitter = jitter
        self._wait_ms = customer_wait_ms
        self._customers = WaitingCustomers()

    @override
    def give_up(self, provider_key: ProviderKey) -> None:
        self._customers.give_up(provider_key)

    @override
    def hurry(self, reference: ProviderReference) -> bool:
        return self._customers.hurry(reference)

    async def _until_told(self, look: Callable[[], Awaitable[_T | None]], waiting: Waiting) -> _T | End:
        return await until_told(look, waiting, clock=self._clock, jitter=self._jitter, wait_ms=self._wait_ms)
