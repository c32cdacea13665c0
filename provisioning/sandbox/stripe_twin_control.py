"""The control door of the Stripe twin: the money oracle, the clock, faults, customers at readers, webhooks.

    GET    /_twin/charges         charged, captured and refunded, for every payment that took money
    GET    /_twin/clock           POST {"advance_ms"} or {"now_ms"} moves it; what is due then happens at once
    POST   /_twin/faults          one `Fault`; DELETE forgets all, ends an outage, lets everything go that hangs
    POST   /_twin/outage          one `Outage`
    POST   /_twin/balance         one `Plant`: a line of the balance that differs from what was charged
    GET    /_twin/readers         who stands at each reader; POST /_twin/readers/ID one `Customer`
    POST   /_twin/webhooks        one `Hook`: where events go, and how badly

Every request carries the control token; the guard is `stripe_twin.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from provisioning.sandbox.stripe_twin_api import charges
from provisioning.sandbox.stripe_twin_balance import Plant, plant
from provisioning.sandbox.stripe_twin_events import Hook, set_hook
from provisioning.sandbox.stripe_twin_faults import Fault, FaultScript, Outage
from provisioning.sandbox.stripe_twin_form import InvalidRequest
from provisioning.sandbox.stripe_twin_readers import KIND, Customer, customer_of, set_customer
from provisioning.sandbox.stripe_twin_store import TwinStore

Shape = TypeVar("Shape")


class ClockMove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Step the twin's clock by, or to."""

    advance_ms: int = 0
    now_ms: int | None = None


class ControlDoor:
    """Routes below /_twin/."""

    def __init__(self, *, store: TwinStore, faults: FaultScript, happen: Callable[[], None]) -> None:
        self._store = store
        self._faults = faults
        self._happen = happen

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register them."""
        router.add_get("/_twin/charges", self._charges)
        router.add_get("/_twin/clock", self._clock)
        router.add_post("/_twin/clock", self._move_clock)
        router.add_post("/_twin/faults", self._add_fault)
        router.add_delete("/_twin/faults", self._clear_faults)
        router.add_post("/_twin/outage", self._set_outage)
        router.add_post("/_twin/balance", self._plant)
        router.add_get("/_twin/readers", self._readers)
        router.add_post("/_twin/readers/{reader}", self._set_customer)
        router.add_post("/_twin/webhooks", self._set_hook)

    async def _charges(self, _request: web.Request) -> web.Response:
        self._happen()
        return web.json_response({"charges": charges(self._store)})

    async def _clock(self, _request: web.Request) -> web.Response:
        return web.json_response({"now_ms": self._store.now_ms()})

    async def _move_clock(self, request: web.Request) -> web.Response:
        move = await _read(request, ClockMove)
        self._store.move_clock(move.advance_ms if move.now_ms is None else move.now_ms - self._store.now_ms())
        self._happen()
        return await self._clock(request)

    async def _add_fault(self, request: web.Request) -> web.Response:
        self._faults.add(await _read(request, Fault))
        return web.json_response({})

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.json_response({})

    async def _set_outage(self, request: web.Request) -> web.Response:
        self._faults.set_outage(await _read(request, Outage), self._store.now_ms())
        return web.json_response({})

    async def _plant(self, request: web.Request) -> web.Response:
        planted = await _read(request, Plant)
        try:
            with self._store.transaction():
                plant(self._store, planted)
        except InvalidRequest as refused:
            return web.json_response(refused.answer.body, status=refused.answer.status)
        return web.json_response({})

    async def _readers(self, _request: web.Request) -> web.Response:
        told = [
            {
                "id": reader["id"],
                "label": reader["label"],
                **msgspec.to_builtins(customer_of(self._store, reader["id"])),
            }
            for reader in self._store.newest_first(KIND)
        ]
        return web.json_response({"readers": told})

    async def _set_customer(self, request: web.Request) -> web.Response:
        try:
            set_customer(self._store, request.match_info["reader"], await _read(request, Customer))
        except InvalidRequest as refused:
            return web.json_response(refused.answer.body, status=refused.answer.status)
        return web.json_response({})

    async def _set_hook(self, request: web.Request) -> web.Response:
        set_hook(self._store, await _read(request, Hook))
        return web.json_response({})


async def _read(request: web.Request, shape: type[Shape]) -> Shape:
    return msgspec.json.decode(await request.read(), type=shape)
