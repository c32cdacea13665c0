"""Tiles for anybody, bundles of entries for auditors (C2SP tlog-tiles). Source: docs/formats/tiles.md."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from appliance.api.public.access import Access
from appliance.ledger.archive import Archive
from appliance.ledger.merkle import TILE_WIDTH
from appliance.ledger.tlog import read_tile_path

FOREVER: Final = "public, max-age=31536000, immutable"
FOREVER_PRIVATE: Final = "private, max-age=31536000, immutable"
"""For answers to a credential: the auditor's own cache may keep them, one that others share may not."""
_COMPRESSED_OFF_LOOP_BYTES: Final = 1_024


class TilePages:
    """`/tile/<L>/<N>[.p/<W>]` and `/tile/entries/<N>[.p/<W>]`."""

    def __init__(self, *, archive: Archive, access: Access) -> None:
        self._archive = archive
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/tile/{path:.*}", self._tile, name="tile")

    async def _tile(self, request: web.Request) -> web.Response:
        # The raw path: a resource has one name, and `%30` for `0` is not it.
        path = read_tile_path(request.rel_url.raw_path.removeprefix("/tile/"))
        if path.level is not None:
            self._access.anybody()
            return _octets(await self._archive.tile(path), FOREVER)
        auditor = self._access.auditor(request)
        bundle = await self._archive.bundle(path)
        self._access.showed(auditor, range(path.number * TILE_WIDTH, path.end))
        response = _octets(bundle, FOREVER_PRIVATE)
        response.enable_compression()
        return response


def _octets(body: bytes, cache: str) -> web.Response:
    return web.Response(
        body=body,
        content_type="application/octet-stream",
        headers={"Cache-Control": cache},
        zlib_executor_size=_COMPRESSED_OFF_LOOP_BYTES,
    )
