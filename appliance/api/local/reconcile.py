"""Reconciliation on the local socket: whose money is compared, look at a day, accept a break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import ProviderName
from appliance.payment.reconcile import Reconciliation
from appliance.wire.answers import ComparedAnswer, ReconcileAnswer
from appliance.wire.requests import Text, Wire

LOOK_S_MAX: Final = 60.0
"""An operator waits at a screen; the daily look has ten minutes."""


class _Day(Wire, frozen=True, kw_only=True):
    day: Text | None = None
    provider: Text | None = None


class _Accept(Wire, frozen=True, kw_only=True):
    type: Text
    reason: Annotated[Text, msgspec.Meta(min_length=1)]
    subject: Text
    provider: Text | None = None


class ReconcileRoutes:
    """`/reconcile...`; `working` raises Unavailable while there is none, the names are as in the answers."""

    def __init__(
        self,
        working: Callable[[], Mapping[ProviderName, Reconciliation]],
        *,
        compared: tuple[str, ...],
        not_compared: tuple[str, ...],
    ) -> None:
        self._working = working
        self._names = ComparedAnswer(compared=compared, not_compared=not_compared)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/reconcile", self._compared, name="local_reconcile_compared")
        router.add_post("/reconcile", self._reconcile, name="local_reconcile")
        router.add_post("/reconcile/accept", self._accept, name="local_reconcile_accept")

    async def _compared(self, _request: web.Request) -> web.Response:
        return json_answer(self._names)

    async def _reconcile(self, request: web.Request) -> web.Response:
        asked = await read_body(request, _Day)
        (looking, *_) = self._asked(asked.provider)
        answer = await look_in_time(looking, asked.day)
        return json_answer(msgspec.structs.replace(answer, not_compared=self._names.not_compared))

    async def _accept(self, request: web.Request) -> web.Response:
        accept = await read_body(request, _Accept)
        (first, *others) = self._asked(accept.provider)
        for looking in others:
            if await looking.is_open(accept.type, accept.subject):
                first = looking
        return json_answer({"seq": await first.accept(accept.type, accept.subject, accept.reason)})

    def _asked(self, provider: str | None) -> list[Reconciliation]:
        """Who compares that provider's money, or everybody. Raises Rejected `provider_unknown`."""
        working = self._working()
        if provider is None:
            return list(working.values())
        if provider not in working:
            raise Rejected("provider_unknown", f"expected one of {', '.join(working)}")
        return [working[ProviderName(provider)]]


async def look_in_time(looking: Reconciliation, day: str | None) -> ReconcileAnswer:
    """What a look finds, if it ends while somebody waits. Raises Unavailable `reconcile_slow`, and as `reconcile`."""
    try:
        async with asyncio.timeout(LOOK_S_MAX):
            return await looking.reconcile(day)
    except TimeoutError:
        raise Unavailable(
            "reconcile_slow",
            f"the provider's list took more than {LOOK_S_MAX:.0f} s to read; the box goes on looking by itself, and"
            " `tillstone status` says whether that worked",
        ) from None
