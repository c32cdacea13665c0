"""A provider's twin inside the test's own loop, as far as it is the same for every provider."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from appliance.ports.clock import Clock
from appliance.ports.provider import Provider
from provisioning.sandbox.stripe_twin_store import TwinStore
from provisioning.sandbox.twin_process import Twin


class InLoop:
    """Use as a context.

    Attributes:
        received: webhooks, as (body, headers), in the order they came.
        status: what the listener answers to a webhook.
    """

    def __init__(self, *, twin: Twin, store: TwinStore, charges: Callable[[TwinStore], list[dict[str, Any]]]) -> None:
        self.received: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200
        self.base = ""
        self._served = twin
        self._state = store
        self._all_charges = charges
        self._runner: web.AppRunner | None = None
        self._providers: list[Provider] = []

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._served.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = self._served.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._served.faults.clear()
        for provider in self._providers:
            await provider.close()
        await self.cut_line()
        self._served.close()
        self._state.close()

    async def cut_line(self) -> None:
        """Nobody listens here any more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def deliver(self) -> int:
        """Send the webhooks that are due; how many requests that took."""

        async def post(_url: str, body: bytes, headers: dict[str, str]) -> int:
            self.received.append((body, headers))
            return self.status

        self._served.happen()
        return await self._served.deliver(post)

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle."""
        self._served.happen()
        return self._all_charges(self._state)

    def kept_minor(self) -> int:
        return sum(charge["captured"] - charge["refunded"] for charge in self.charges())


def counted_store(clock: Clock, **more: Any) -> TwinStore:
    """A twin's memory whose names are counted, so every run gives the same ones."""
    numbers = itertools.count(1)
    return TwinStore(
        Path(":memory:"), now_ms=clock.now_ms, random_hex=lambda size: f"{next(numbers):0{2 * size}x}", **more
    )
