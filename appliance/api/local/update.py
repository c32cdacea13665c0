"""Updates on the local socket: how the newest stands, and taking another one as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from appliance.api.local.exchange import json_answer
from appliance.device.update import Updates
from appliance.model.errors import Unavailable

_PIECE_BYTES: Final = 1 << 20


class UpdateRoutes:
    """`/update`: GET tells, POST takes an update file.

    Args:
        updates: None outside an image.
    """

    def __init__(self, updates: Updates | None) -> None:
        self._updates = updates

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/update", self._show, name="local_update")
        router.add_post("/update", self._take, name="local_update_take")

    async def _show(self, _request: web.Request) -> web.Response:
        updates = self._require()
        known = updates.known
        return json_answer(
            {
                "running": updates.image.version,
                "model": updates.image.model,
                "floor": await updates.floor(),
                "state": known.state,
                "since_ms": known.since_ms,
                "version": known.version,
                "number": known.number,
                "code": known.code,
                "detail": known.detail,
            }
        )

    async def _take(self, request: web.Request) -> web.Response:
        statement = await self._require().stage(_pieces(request))
        return json_answer({"version": statement.version, "number": statement.number})

    def _require(self) -> Updates:
        if self._updates is None:
            raise Unavailable("update_unsupported", "this box does not run from an image with a TPM: nothing to update")
        return self._updates


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(_PIECE_BYTES):
        yield piece
