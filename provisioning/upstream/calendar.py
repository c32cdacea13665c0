"""An OpenTimestamps calendar: it puts the digests of any number of boxes into one Bitcoin transaction.

Owns the door's two questions and when a batch begins. A promise leaves only when its commitment is on the disk; a
timestamp only when its block is six deep. Everything else lives in the file, so a killed calendar goes on where it was.

* `POST /digest`: 1 to 64 bytes; the answer is a timestamp that ends in the promise of this calendar.
* `GET /timestamp/HEX`: the timestamp of a promised commitment, or 404 while it waits.

Source: docs/formats/timestamp.md; python-opentimestamps `calendar.py`, whose client this serves.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from appliance.anchor.anchoring import Anchoring
from appliance.anchor.anchors import newest_anchor
from appliance.evidence.ots import SHA256, Promised, append, timestamp_through
from appliance.evidence.ots_file import decode_timestamp, encode_timestamp
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from provisioning.upstream.calendar_store import CalendarStore, claim

DIGEST_BYTES_MAX: Final = 64
CONTENT_TYPE: Final = "application/vnd.opentimestamps.v1"
_COMMITMENT: Final = re.compile(r"[0-9a-f]{64}")


class Calendar:
    """The calendar at `address`, over one file and one line of anchors."""

    def __init__(
        self, *, address: str, store: CalendarStore, anchoring: Anchoring, every_ms: int, clock: Clock, log: Log
    ) -> None:
        """`every_ms`: pause between two batches; an anchor that waits longer for its block delays the next."""
        self._promise = Promised(uri=address)
        self._store = store
        self._anchoring = anchoring
        self._every_ms = every_ms
        self._clock = clock
        self._log = log

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=DIGEST_BYTES_MAX)
        application.router.add_post("/digest", self._take)
        application.router.add_get("/timestamp/{commitment}", self._give)
        return application

    async def step(self) -> None:
        """Follow the chain; begin a batch when it is time and something waits. What fails is tried at the next step."""
        try:
            await self._anchoring.tend()
            await self._begin_batch()
        except (Unavailable, Rejected, OutcomeUnknown) as failure:
            self._log.warning("calendar.step_failed", error=failure)

    async def _begin_batch(self) -> None:
        newest = await self._store.read(newest_anchor)
        # Wall time, because it must outlive the process; after a step backwards the next batch merely comes early.
        if newest is not None and 0 <= self._clock.now_ms() - newest.made_ms < self._every_ms:
            return
        if await self._anchoring.is_busy():
            return
        batch = await self._store.batch()
        if batch is None:
            return
        await self._anchoring.begin(batch.root, lambda connection, anchor: claim(connection, anchor, batch))
        self._log.info("calendar.batch_made", digests=batch.count)

    async def _take(self, request: web.Request) -> web.Response:
        digest = await request.read()
        if not 0 < len(digest) <= DIGEST_BYTES_MAX:
            raise web.HTTPBadRequest(text=f"expected a digest of 1 to {DIGEST_BYTES_MAX} bytes")
        promised = timestamp_through(digest, [append(self._store.salt(digest)), SHA256], self._promise)
        ((commitment, _),) = promised.claims()
        try:
            await self._store.add(commitment)
        except Unavailable as trouble:
            raise web.HTTPServiceUnavailable(text=trouble.detail) from trouble
        return web.Response(body=encode_timestamp(promised), content_type=CONTENT_TYPE)

    async def _give(self, request: web.Request) -> web.Response:
        asked = request.match_info["commitment"]
        if not _COMMITMENT.fullmatch(asked):
            raise web.HTTPBadRequest(text="expected a commitment of 64 hexadecimal digits in lower case")
        commitment = bytes.fromhex(asked)
        place = await self._store.place(commitment)
        if place is None:
            raise web.HTTPNotFound(text="Commitment not found")
        settled = None if place.anchor is None else await self._anchoring.settled(place.anchor)
        if settled is None:
            raise web.HTTPNotFound(text="Pending confirmation in Bitcoin blockchain")
        root = commitment
        for step in place.steps:
            root = step.apply(root)
        whole = timestamp_through(commitment, place.steps, decode_timestamp(settled.timestamp, root))
        return web.Response(body=encode_timestamp(whole), content_type=CONTENT_TYPE)
