"""JSON in and out of the local socket."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from appliance.model.errors import Rejected
from appliance.wire.faults import explain
from appliance.wire.requests import Wire

BodyT = TypeVar("BodyT", bound=Wire)


async def read_body(request: web.Request, shape: type[BodyT]) -> BodyT:
    """The typed body. Raises Rejected `body_invalid`."""
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except (msgspec.ValidationError, msgspec.DecodeError) as fault:
        raise Rejected("body_invalid", explain(fault)) from None


def json_answer(value: object) -> web.Response:
    """A value as JSON."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
