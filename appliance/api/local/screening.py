"""Screening on the local socket: thresholds that hold, changes of them, the reasons of one payment, the last day."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.ledger.ledger import Ledger
from appliance.model.ids import request_key
from appliance.model.limits import DAY_MS
from appliance.payment.screening.changes import Thresholds
from appliance.payment.screening.records import Screened, counts_since, find_screened
from appliance.payment.screening.trees import Model
from appliance.ports.clock import Clock
from appliance.wire.requests import Text, Wire


class _Change(Wire, frozen=True, kw_only=True):
    changed: Annotated[dict[Text, int | Text], msgspec.Meta(min_length=1, max_length=32)]


class ScreeningRoutes:
    """`/screening`, `/screening/change` and `/screening/why`."""

    def __init__(self, *, thresholds: Thresholds, ledger: Ledger, clock: Clock, model: Model | None) -> None:
        self._thresholds = thresholds
        self._ledger = ledger
        self._clock = clock
        self._model = model

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/screening", self._show, name="local_screening")
        router.add_post("/screening/change", self._change, name="local_screening_change")
        router.add_get("/screening/why", self._why, name="local_screening_why")

    async def _show(self, _request: web.Request) -> web.Response:
        since_ms = self._clock.now_ms() - DAY_MS
        counts = await self._ledger.read(lambda connection: counts_since(connection, since_ms))
        return json_answer(
            {
                "thresholds": await self._thresholds.show(),
                "model": None if self._model is None else self._model.sha256.hex(),
                "last_day": [
                    {"verdict": verdict, "rules": rules.split(","), "count": count} for verdict, rules, count in counts
                ],
            }
        )

    async def _change(self, request: web.Request) -> web.Response:
        change = await read_body(request, _Change)
        return json_answer({"seq": await self._thresholds.change(change.changed)})

    async def _why(self, request: web.Request) -> web.Response:
        key = request_key(request.query.get("key", ""))
        found = await self._ledger.read(partial(find_screened, key=key))
        return json_answer([_plain(each) for each in found])


def _plain(screened: Screened) -> dict[str, object]:
    facts = screened.facts
    return {
        "seq": screened.seq,
        "verb": screened.verb,
        "verdict": facts.verdict,
        "reasons": [{"rule": each.rule, "seen": each.seen, "limit": each.limit} for each in facts.reasons],
        "score_permille": facts.score,
        "model": None if facts.model is None else facts.model.hex(),
    }
