"""The control door of the Stripe twin: beside what every twin has, its balance, customers at readers, webhooks.

    POST   /_twin/balance         one `Plant`: a line of the balance that differs from what was charged
    GET    /_twin/readers         who stands at each reader; POST /_twin/readers/ID one `Customer`
    POST   /_twin/kept-cards      a card that a customer leaves with the shop: `id` and `customer`
    POST   /_twin/webhooks        one `Hook`: where events go, and how badly

Every request carries the control token; the guard is `stripe_twin.py`'s.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from provisioning.sandbox.stripe_twin_api import keep_method
from provisioning.sandbox.stripe_twin_balance import Plant, plant
from provisioning.sandbox.stripe_twin_events import Hook, set_hook
from provisioning.sandbox.stripe_twin_form import InvalidRequest
from provisioning.sandbox.stripe_twin_readers import KIND, Customer, customer_of, set_customer
from provisioning.sandbox.stripe_twin_store import TwinStore
from provisioning.sandbox.twin_control import read_json


class ControlDoor:
    """Routes below /_twin/."""

    def __init__(self, *, store: TwinStore) -> None:
        self._store = store

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register them."""
        router.add_post("/_twin/balance", self._plant)
        router.add_get("/_twin/readers", self._readers)
        router.add_post("/_twin/readers/{reader}", self._set_customer)
        router.add_post("/_twin/kept-cards", self._keep)
        router.add_post("/_twin/webhooks", self._set_hook)

    async def _plant(self, request: web.Request) -> web.Response:
        planted = await read_json(request, Plant)
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
            set_customer(self._store, request.match_info["reader"], await read_json(request, Customer))
        except InvalidRequest as refused:
            return web.json_response(refused.answer.body, status=refused.answer.status)
        return web.json_response({})

    async def _keep(self, _request: web.Request) -> web.Response:
        with self._store.transaction():
            return web.json_response(keep_method(self._store))

    async def _set_hook(self, request: web.Request) -> web.Response:
        set_hook(self._store, await read_json(request, Hook))
        return web.json_response({})
