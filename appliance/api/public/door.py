"""The read-only door: what auditors, strangers and monitoring may have. Plain HTTP, loopback by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from appliance.device.health import Health, Level
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.runtime.metrics import CONTENT_TYPE, Metrics


class Pages(Protocol):
    """Some routes of the door."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register them."""
        ...


class PublicDoor:
    """Routes of the read-only door."""

    def __init__(
        self,
        *,
        checkpoints: CheckpointMaker | None,
        trust: str,
        metrics: Metrics,
        health: Callable[[], Health],
        pages: Sequence[Pages],
    ) -> None:
        self._checkpoints = checkpoints
        self._trust = trust
        self._metrics = metrics
        self._health = health
        self._pages = tuple(pages)

    def application(self, middleware: Middleware) -> web.Application:
        """The aiohttp application of the read-only door."""
        application = web.Application(middlewares=[middleware], client_max_size=0)
        application.router.add_get("/checkpoint", self._checkpoint, name="checkpoint")
        application.router.add_get("/trust.json", self._trust_file, name="trust")
        application.router.add_get("/metrics", self._metrics_page, name="metrics")
        application.router.add_get("/health", self._health_page, name="health")
        for pages in self._pages:
            pages.add_to(application.router)
        return application

    async def _checkpoint(self, _request: web.Request) -> web.Response:
        if self._checkpoints is None:
            raise web.HTTPNotFound
        note = await self._checkpoints.current()
        return web.Response(
            body=note, content_type="text/plain", charset="utf-8", headers={"Cache-Control": "no-store"}
        )

    async def _trust_file(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._trust, content_type="application/json")

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _health_page(self, _request: web.Request) -> web.Response:
        health = self._health()
        return web.json_response(
            {"level": health.level.value, "sentence": health.sentence, "state": health.state.value},
            status=503 if health.level is Level.STOPPED else 200,
        )
