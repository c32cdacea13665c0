"""A payment's slip on the local socket: as text, or printed by the box."""

from __future__ import annotations

from aiohttp import web

from appliance.api.ledger_answers import whole_number
from appliance.api.local.exchange import json_answer, read_body
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import request_key
from appliance.slip.layout import WIDTH_DEFAULT, WIDTH_MIN, lay_out
from appliance.slip.plain import plain_text
from appliance.slip.printing import Printing
from appliance.slip.reader import SlipReader
from appliance.wire.requests import KeyText, Wire

_WIDTH_MAX = 200


class _Print(Wire, frozen=True, kw_only=True):
    key: KeyText


class SlipRoutes:
    """`/slip` and `/slip/print`."""

    def __init__(self, reader: SlipReader, printing: Printing | None) -> None:
        self._reader = reader
        self._printing = printing

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/slip", self._slip, name="local_slip")
        router.add_post("/slip/print", self._print, name="local_slip_print")

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

    async def _print(self, request: web.Request) -> web.Response:
        """Queue a copy; what came to paper nobody waits for here, `/status` says how the printer is."""
        key = request_key((await read_body(request, _Print)).key)
        if self._printing is None:
            raise Unavailable("printer_missing", "no printer is set up: the settings have no [printer]")
        await self._reader.read(key)  # a key that nobody knows is refused now, not on paper
        self._printing.copy(key)
        state = self._printing.state
        return json_answer({"queued": True, "printer": None if state is None else state.value})
