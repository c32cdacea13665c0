"""Customers who are waited for: whoever waits can be hurried and made to give up, by the names of what it waits for.

Must never decide what the waiting ends with: that is the provider's adapter's, which looks again when its bell rings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from appliance.model.ids import ProviderKey, ProviderReference


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A customer who is waited for now. Ring `bell` to look at once.

    Attributes:
        reference: the provider's name for what the customer was asked; empty while it has none.
    """

    reference: str = ""
    is_given_up: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class WaitingCustomers:
    """Everybody who is waited for at one provider, by the key that was sent."""

    def __init__(self) -> None:
        self._waiting: dict[ProviderKey, Waiting] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._waiting

    @contextmanager
    def await_one(self, key: ProviderKey, waiting: Waiting) -> Iterator[None]:
        """Whoever calls can be hurried and given up inside the block."""
        self._waiting[key] = waiting
        try:
            yield
        finally:
            del self._waiting[key]

    def give_up(self, key: ProviderKey) -> None:
        """Wait no longer for this customer, if one is waited for."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.is_given_up = True
            waiting.bell.set()

    def hurry(self, reference: ProviderReference) -> bool:
        """Look at once; False when nobody waits for anything of this name."""
        waiting = next((each for each in self._waiting.values() if each.reference == reference), None)
        if waiting is not None:
            waiting.bell.set()
        return waiting is not None
