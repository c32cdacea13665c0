"""How far the box may be trusted, for anybody to read; an auditor may have the whole log verified now."""

from __future__ import annotations

import msgspec
from aiohttp import web

from appliance.api.integrity import Integrity
from appliance.api.public.access import Access


class IntegrityPages:
    """`/integrity` and `/integrity/verify`."""

    def __init__(self, *, integrity: Integrity, access: Access) -> None:
        self._integrity = integrity
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/integrity", self._report, name="integrity")
        router.add_post("/integrity/verify", self._verify, name="integrity_verify")

    async def _report(self, _request: web.Request) -> web.Response:
        self._access.anybody()
        return _json(self._integrity.report(), 200)

    async def _verify(self, request: web.Request) -> web.Response:
        self._access.auditor(request)
        return _json(self._integrity.verify_now(), 202)


def _json(value: object, status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
