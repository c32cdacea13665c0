"""`GET /v1/events`: a terminal follows its own payments by Server-Sent Events.

The stream is a cursor into the log: each event's id is an entry's seq, so a till that reconnects with `after` misses
nothing and needs no memory here. Slow readers wait on their socket, never in our memory.
Source: WHATWG HTML, section 9.2 (Server-sent events).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import Encoding, decode_signed
from appliance.identity.terminals import Terminals
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import KeyId, TerminalId, request_key
from appliance.model.invariants import present
from appliance.model.limits import EVENT_STREAMS_MAX, REQUEST_BYTES_MAX
from appliance.payment.shown import CUSTOMER_ASKED, Shown
from appliance.payment.story import events_after
from appliance.runtime.metrics import Metrics
from appliance.wire.answers import Event
from appliance.wire.requests import EventsBody

KEEP_ALIVE_S: Final = 15
_SCHEME: Final = "Tillstone "
_AFTER: Final = re.compile(r"\A(?:-1|[0-9]{1,18})\Z")
"""What SQLite can compare: 18 digits are below 2**63."""


class EventDoor:
    """Open streams, counted and bounded."""

    def __init__(
        self, *, ledger: Ledger, authenticate: Authenticate, terminals: Terminals, metrics: Metrics, shown: Shown
    ) -> None:
        self._ledger = ledger
        self._authenticate = authenticate
        self._terminals = terminals
        self._metrics = metrics
        self._shown = shown
        self._streams: dict[asyncio.Task[object], KeyId] = {}
        terminals.watch(self._end_revoked)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One stream, until the terminal hangs up or the box stops."""
        key_id, terminal, after = await self._admit(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        stream = present(asyncio.current_task(), "a handler runs in a task")
        self._streams[stream] = key_id
        self._metrics.event_streams.set(len(self._streams))
        try:
            await response.prepare(request)
            await self._follow(response, terminal, after)
        except ConnectionError:
            pass  # the terminal hung up; it comes back with `after`
        finally:
            self._streams.pop(stream, None)
            self._metrics.event_streams.set(len(self._streams))
        return response

    async def end_streams(self, _application: web.Application) -> None:
        """End every stream at once when the box stops; tills come back with `after`."""
        for stream in tuple(self._streams):
            stream.cancel()

    def _end_revoked(self) -> None:
        for stream, key_id in tuple(self._streams.items()):
            if not self._terminals.is_paired(key_id):
                stream.cancel()

    async def _admit(self, request: web.Request) -> tuple[KeyId, TerminalId, int]:
        header = request.headers.get("Authorization", "")
        if not header.startswith(_SCHEME):
            raise Rejected("signature_wrong", "expected `Authorization: Tillstone <JWS>` signed for the verb events")
        # aiohttp keeps bytes that are not UTF-8 as surrogates; given back as they came, the decoder refuses them.
        token = header.removeprefix(_SCHEME).encode("utf-8", "surrogateescape")
        signed = decode_signed(token, Encoding.JOSE, size_max=REQUEST_BYTES_MAX)
        allowed = await self._authenticate(signed, EventsBody)
        self._terminals.by_key(signed.key_id)  # revoked while the claims were compared with the log?
        if len(self._streams) >= EVENT_STREAMS_MAX:
            raise Rejected("too_many_streams", f"at most {EVENT_STREAMS_MAX} streams are open at a time")
        after = request.query.get("after", str(allowed.body.after))
        if not _AFTER.match(after):
            raise Rejected("body_invalid", "expected `after` to be the seq of an entry, or -1")
        return signed.key_id, allowed.identity.terminal, int(after)

    async def _follow(self, response: web.StreamResponse, terminal: TerminalId, after: int) -> None:
        while True:
            events, after = await events_after(self._ledger, terminal, after)
            if events:
                await response.write(_lines([self._with_address(event) for event in events]))
                continue
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await self._ledger.wait_beyond(after + 1)
            except TimeoutError:
                await response.write(b": still here\n\n")

    def _with_address(self, event: Event) -> Event:
        """What the customer must see rides along as long as somebody waits for it."""
        if event.code != CUSTOMER_ASKED:
            return event
        return msgspec.structs.replace(event, show=self._shown.of(request_key(event.key)))


def _lines(events: Sequence[Event]) -> bytes:
    return b"".join(
        b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.verb.encode(), msgspec.json.encode(event))
        for event in events
    )
