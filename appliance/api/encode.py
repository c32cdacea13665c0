"""Answers on the wire: the same members as CBOR or as JSON, as the request came."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web
from typing_extensions import override

from appliance.crypto import cbor
from appliance.identity.signed import Encoding
from appliance.wire.answers import Problem
from appliance.wire.requests import Wire

_JSON: Final = msgspec.json.Encoder()
_BYTES_STAY: Final = (bytes,)
_RETRY_AFTER_S: Final = "1"


def answer(body: Wire, encoding: Encoding, *, status: int = 200) -> web.Response:
    """A success in kind."""
    if encoding is Encoding.COSE:
        encoded = cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=_BYTES_STAY))
        return web.Response(status=status, body=encoded, content_type="application/cbor")
    return web.Response(status=status, body=_JSON.encode(body), content_type="application/json")


class Unnamed(web.Response):
    """A response that does not name the software behind the door."""

    @override
    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop("Server", None)


def refusal(problem: Problem, encoding: Encoding) -> web.Response:
    """A problem in kind; 503 and a reader who is too fast are told when to come back."""
    may_come_back = problem.status == 503 or problem.code == "too_many_reads"
    headers = {"Retry-After": _RETRY_AFTER_S} if may_come_back else {}
    if encoding is Encoding.COSE:
        return Unnamed(
            status=problem.status,
            body=cbor.encode_ordered(msgspec.to_builtins(problem)),
            content_type="application/cbor",
            headers=headers,
        )
    return Unnamed(
        status=problem.status, body=_JSON.encode(problem), content_type="application/problem+json", headers=headers
    )
