"""A payment's slip as text, on the local socket."""

from __future__ import annotations

from aiohttp import web

from appliance.api.ledger_answers import whole_number
from appliance.api.local.exchange import json_answer
from appliance.model.errors import Rejected
from appliance.model.ids import request_key
from appliance.slip.layout import WIDTH_DEFAULT, WIDTH_MIN, lay_out
from appliance.slip.plain import plain_text
from appliance.slip.reader import SlipReader

_WIDTH_MAX = 200


class SlipRoutes:
    """`/slip`."""

    def __init__(self, reader: SlipReader) -> None:
        self._reader = reader

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the route."""
        router.add_get("/slip", self._slip, name="local_slip")

    async def _slip(self, request: web.Request) -> web.Response:
        width = whole_number(request.query, "width") if "width" in request.query else WIDTH_DEFAULT
        if not WIDTH_MIN <= width <= _WIDTH_MAX:
            raise Rejected("question_malformed", f"expected a width of {WIDTH_MIN} to {_WIDTH_MAX} columns")
        read = await self._reader.read(request_key(request.query.get("key", "")))
        page = lay_out(read.slip, self._reader.shop, read.proof, width=width, is_copy=True)
        return json_answer(
            {
                "key": read.slip.key,
                "standing": read.slip.standing.value,
                "seq": read.slip.entry_seq,
                "entry_hash": read.slip.entry_hash.hex(),
                "link": read.proof.link,
                "text": plain_text(page, width=width),
            }
        )
