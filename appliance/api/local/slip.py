"""A payment's slip on the local socket: as text, or printed by the box; and any lines."""

from __future__ import annotations

import asyncio
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from appliance.api.ledger_answers import whole_number
from appliance.api.local.exchange import json_answer, read_body
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import request_key
from appliance.ports.printer import page_of
from appliance.slip.layout import WIDTH_DEFAULT, WIDTH_MIN, lay_out
from appliance.slip.paper_text import clean_row
from appliance.slip.plain import plain_text
from appliance.slip.printing import Printing
from appliance.slip.reader import SlipReader
from appliance.wire.requests import KeyText, Wire

WIDTH_MAX = 200


class _Print(Wire, frozen=True, kw_only=True):
    key: KeyText


class _Lines(Wire, frozen=True, kw_only=True):
    lines: Annotated[tuple[Annotated[str, Meta(max_length=WIDTH_MAX)], ...], Meta(min_length=1, max_length=500)]


class SlipRoutes:
    """`/slip`, `/slip/print`, `/print` and `/printer`."""

    def __init__(self, reader: SlipReader, printing: Printing | None) -> None:
        self._reader = reader
        self._printing = printing

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/slip", self._slip, name="local_slip")
        router.add_post("/slip/print", self._print, name="local_slip_print")
        router.add_post("/print", self._print_lines, name="local_print")
        router.add_get("/printer", self._printer, name="local_printer")

    async def _slip(self, request: web.Request) -> web.Response:
        width = whole_number(request.query, "width") if "width" in request.query else WIDTH_DEFAULT
        if not WIDTH_MIN <= width <= WIDTH_MAX:
            raise Rejected("question_malformed", f"expected a width of {WIDTH_MIN} to {WIDTH_MAX} columns")
        read = await self._reader.read(request_key(request.query.get("key", "")))
        page = lay_out(read.slip, self._reader.shop, read.proof, width=width, is_copy=True)
        return json_answer(
            {
                "key": read.slip.key,
                "standing": read.slip.standing.value,
                "seq": read.slip.entry_seq,
                "entry_hash": read.slip.entry_hash.hex(),
                "link": read.proof.link,
                # A QR code takes a tenth of a second, which the loop does not have.
                "text": await asyncio.to_thread(plain_text, page, width=width),
            }
        )

    async def _print(self, request: web.Request) -> web.Response:
        """Queue a copy; what came to paper nobody waits for here, `/status` says how the printer is."""
        key = request_key((await read_body(request, _Print)).key)
        printing = self._working()
        await self._reader.slip(key)  # a key that nobody knows is refused now, not on paper
        printing.copy(key)
        return _queued(printing)

    async def _print_lines(self, request: web.Request) -> web.Response:
        """Queue lines that are laid out already, such as a day's report."""
        lines = (await read_body(request, _Lines)).lines
        printing = self._working()
        printing.report("lines", page_of([clean_row(line) for line in lines]))
        return _queued(printing)

    async def _printer(self, _request: web.Request) -> web.Response:
        """How wide its paper is, for whoever lays something out."""
        return json_answer({"columns": self._working().columns})

    def _working(self) -> Printing:
        if self._printing is None:
            raise Unavailable("printer_missing", "no printer is set up: the settings have no [printer]")
        return self._printing


def _queued(printing: Printing) -> web.Response:
    state = printing.state
    return json_answer({"queued": True, "printer": None if state is None else state.value})
