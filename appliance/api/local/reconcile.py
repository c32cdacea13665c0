"""Reconciliation on the local socket: look at a day, accept a break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.payment.reconcile import Reconciliation
from appliance.wire.requests import Text, Wire


class _Day(Wire, frozen=True, kw_only=True):
    day: Text | None = None


class _Accept(Wire, frozen=True, kw_only=True):
    type: Text
    reason: Annotated[Text, msgspec.Meta(min_length=1)]
    subject: Text


class ReconcileRoutes:
    """`/reconcile...`; `working` raises Unavailable while there is none, `not_compared` as in the answer."""

    def __init__(self, working: Callable[[], Reconciliation], *, not_compared: tuple[str, ...]) -> None:
        self._working = working
        self._not_compared = not_compared

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/reconcile", self._reconcile, name="local_reconcile")
        router.add_post("/reconcile/accept", self._accept, name="local_reconcile_accept")

    async def _reconcile(self, request: web.Request) -> web.Response:
        asked = await read_body(request, _Day)
        answer = await self._working().reconcile(asked.day)
        return json_answer(msgspec.structs.replace(answer, not_compared=self._not_compared))

    async def _accept(self, request: web.Request) -> web.Response:
        accept = await read_body(request, _Accept)
        return json_answer({"seq": await self._working().accept(accept.type, accept.subject, accept.reason)})
