"""The part of a control door that every twin has: the money oracle, the clock, faults.

    GET    /_twin/charges         charged, captured and refunded, for every payment that took money
    GET    /_twin/clock           POST {"advance_ms"} or {"now_ms"} moves it; what is due then happens at once
    POST   /_twin/faults          one `Fault`; DELETE forgets all, ends an outage, lets everything go that hangs
    POST   /_twin/outage          one `Outage`

Every request carries the control token; `is_allowed` compares it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from provisioning.sandbox.stripe_twin_faults import Fault, FaultScript, Outage
from provisioning.sandbox.stripe_twin_store import TwinStore

Shape = TypeVar("Shape")


class ClockMove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Step the twin's clock by, or to."""

    advance_ms: int = 0
    now_ms: int | None = None


class TwinControl:
    """Routes below /_twin/."""

    def __init__(
        self,
        *,
        store: TwinStore,
        faults: FaultScript,
        happen: Callable[[], None],
        charges: Callable[[TwinStore], list[dict[str, Any]]],
    ) -> None:
        self._store = store
        self._faults = faults
        self._happen = happen
        self._all_charges = charges

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register them."""
        router.add_get("/_twin/charges", self._charges)
        router.add_get("/_twin/clock", self._clock)
        router.add_post("/_twin/clock", self._move_clock)
        router.add_post("/_twin/faults", self._add_fault)
        router.add_delete("/_twin/faults", self._clear_faults)
        router.add_post("/_twin/outage", self._set_outage)

    async def _charges(self, _request: web.Request) -> web.Response:
        self._happen()
        return web.json_response({"charges": self._all_charges(self._store)})

    async def _clock(self, _request: web.Request) -> web.Response:
        return web.json_response({"now_ms": self._store.now_ms()})

    async def _move_clock(self, request: web.Request) -> web.Response:
        move = await read_json(request, ClockMove)
        self._store.move_clock(move.advance_ms if move.now_ms is None else move.now_ms - self._store.now_ms())
        self._happen()
        return await self._clock(request)

    async def _add_fault(self, request: web.Request) -> web.Response:
        self._faults.add(await read_json(request, Fault))
        return web.json_response({})

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.json_response({})

    async def _set_outage(self, request: web.Request) -> web.Response:
        self._faults.set_outage(await read_json(request, Outage), self._store.now_ms())
        return web.json_response({})


def bearer(request: web.Request) -> str:
    """The token that a request carries."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def is_allowed(request: web.Request, control_token: str) -> bool:
    """Whether it may pass: only what is below /_twin/ asks for the control token."""
    is_control = request.path.startswith("/_twin/")
    return not is_control or hmac.compare_digest(bearer(request).encode(), control_token.encode())


async def read_json(request: web.Request, shape: type[Shape]) -> Shape:
    """The request's body."""
    return msgspec.json.decode(await request.read(), type=shape)
