"""The shop's day on the local socket: how it stands, and its close."""

from __future__ import annotations

from aiohttp import web

from appliance.api.local.exchange import json_answer
from appliance.api.local.reconcile import ReconcileRoutes
from appliance.till.days import ShopDays


class DayRoutes:
    """`/day...`, and `/reconcile...` beside it."""

    def __init__(self, days: ShopDays, reconcile: ReconcileRoutes) -> None:
        self._days = days
        self._reconcile = reconcile

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/day", self._standing, name="local_day")
        router.add_post("/day/close", self._close, name="local_day_close")
        self._reconcile.add_to(router)

    async def _standing(self, _request: web.Request) -> web.Response:
        return json_answer(await self._days.standing())

    async def _close(self, _request: web.Request) -> web.Response:
        return json_answer(await self._days.close())
