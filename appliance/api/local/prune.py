"""Pruning on the local socket: what would go, a snapshot, and the removal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.ledger.prune import Pruning
from appliance.model.limits import DAY_MS
from appliance.wire.requests import Wire


class _Keep(Wire, frozen=True, kw_only=True):
    days: Annotated[int, msgspec.Meta(ge=0, le=36_500)]


class PruneRoutes:
    """`/prune...`."""

    def __init__(self, pruning: Pruning) -> None:
        self._pruning = pruning

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/prune/plan", self._plan, name="local_prune_plan")
        router.add_post("/prune/snapshot", self._snapshot, name="local_prune_snapshot")
        router.add_post("/prune", self._prune, name="local_prune")

    async def _plan(self, request: web.Request) -> web.Response:
        keep = await read_body(request, _Keep)
        return json_answer(asdict(await self._pruning.plan(keep.days * DAY_MS)))

    async def _snapshot(self, _request: web.Request) -> web.Response:
        return json_answer({"seq": await self._pruning.take_snapshot()})

    async def _prune(self, request: web.Request) -> web.Response:
        keep = await read_body(request, _Keep)
        return json_answer(asdict(await self._pruning.prune(keep.days * DAY_MS)))
