"""A backup on the local socket: the file as it is made, in one answer of any length."""

from __future__ import annotations

from contextlib import aclosing

from aiohttp import web

from appliance.device.backup import Backup
from appliance.model.errors import Rejected


class BackupRoutes:
    """`/backup`; `backup` is None where the settings name no recipient."""

    def __init__(self, backup: Backup | None) -> None:
        self._backup = backup

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the route."""
        router.add_post("/backup", self._make, name="local_backup")

    async def _make(self, request: web.Request) -> web.StreamResponse:
        """What fails later ends the connection: the file lacks its end and counts for nothing."""
        if self._backup is None:
            raise Rejected(
                "backup_not_set_up", "expected [backup] recipient_path in the settings: to whom it is sealed"
            )
        async with aclosing(self._backup.stream()) as pieces:
            first = await anext(pieces)  # a refusal is still an answer of its own here
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            await response.prepare(request)
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
        return response
