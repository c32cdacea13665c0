"""What the operator asks about a person, on the local socket. Names travel in bodies, never in an address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from aiohttp import web

from appliance.api.local.exchange import json_answer, read_body
from appliance.api.subject_answers import SubjectAnswers
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.wire.requests import Wire


class _About(Wire, frozen=True, kw_only=True):
    subject: Annotated[str, msgspec.Meta(max_length=256)]


class SubjectRoutes:
    """`/subject/...`."""

    def __init__(self, answers: SubjectAnswers) -> None:
        self._answers = answers

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/subject/held", self._held, name="local_subject_held")
        router.add_post("/subject/erase", self._erase, name="local_subject_erase")
        router.add_post("/subject/export", self._export, name="local_subject_export")

    async def _held(self, request: web.Request) -> web.Response:
        about = await read_body(request, _About)
        return json_answer(await self._answers.held(about.subject))

    async def _erase(self, request: web.Request) -> web.Response:
        about = await read_body(request, _About)
        return json_answer(await self._answers.erase(about.subject))

    async def _export(self, request: web.Request) -> web.StreamResponse:
        """One JSON value a line; whole only if the last one is `end`."""
        about = await read_body(request, _About)
        async with aclosing(self._answers.export(about.subject)) as parts:
            first = await anext(parts)  # a refusal is still an answer of its own here
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            await response.write(_line(first))
            async for part in _to_the_end(parts):
                await response.write(_line(part))
        return response


async def _to_the_end(parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """`parts`; the status has left already, so what goes wrong from here on is the last line."""
    try:
        async for part in parts:
            yield part
    except (Rejected, Unavailable, OutcomeUnknown) as failure:
        yield {"code": failure.code, "detail": failure.detail}


def _line(part: dict[str, Any]) -> bytes:
    return msgspec.json.encode(part) + b"\n"
