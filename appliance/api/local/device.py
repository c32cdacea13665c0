"""The device's state on the local socket: how it is, its lock and the end of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.api.local.update import UpdateRoutes
from appliance.device.life import DeviceLife
from appliance.model.card_data import refuse_card_numbers
from appliance.wire.requests import Text, Wire


class _Reason(Wire, frozen=True, kw_only=True):
    reason: Annotated[Text, msgspec.Meta(min_length=1)]


class DeviceRoutes:
    """`/device`, `/device/lock`, `/device/unlock`, `/device/clock` (the wall clock is right); they answer the state.

    Beside them those of its updates.
    """

    def __init__(self, life: DeviceLife, *, accept_clock: Callable[[], Awaitable[None]], updates: UpdateRoutes) -> None:
        self._life = life
        self._accept_clock = accept_clock
        self._updates = updates

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/device", self._show, name="local_device")
        router.add_post("/device/lock", self._lock, name="local_device_lock")
        router.add_post("/device/unlock", self._unlock, name="local_device_unlock")
        router.add_post("/device/clock", self._go_by_clock, name="local_device_clock")
        self._updates.add_to(router)

    def facts(self) -> dict[str, object]:
        """`state`, `since_ms`, `reason`, and `lock`: the reason of one that stands."""
        standing = self._life.standing
        return {
            "state": standing.state,
            "since_ms": standing.since_ms,
            "reason": standing.reason,
            "lock": standing.lock,
        }

    async def _show(self, _request: web.Request) -> web.Response:
        return json_answer(self.facts())

    async def _lock(self, request: web.Request) -> web.Response:
        await self._life.lock(await _reason_of(request))
        return json_answer(self.facts())

    async def _unlock(self, request: web.Request) -> web.Response:
        await self._life.unlock(await _reason_of(request))
        return json_answer(self.facts())

    async def _go_by_clock(self, _request: web.Request) -> web.Response:
        await self._accept_clock()
        return json_answer(self.facts())


async def _reason_of(request: web.Request) -> str:
    body = await read_body(request, _Reason)
    refuse_card_numbers((body.reason,))
    return body.reason
