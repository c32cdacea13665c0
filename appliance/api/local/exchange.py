"""JSON in and out of the local socket."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from aiohttp import web

from appliance.model.errors import Rejected
from appliance.wire.faults import explain
from appliance.wire.requests import Wire

BodyT = TypeVar("BodyT", bound=Wire)

BODY_BYTES_MAX: Final = 64 * 1024  # a day's report to print
LARGEST_BYTES_MAX: Final = 2 << 20  # what an escrow parcel proves


async def read_body(request: web.Request, shape: type[BodyT], *, size_max: int = BODY_BYTES_MAX) -> BodyT:
    """The typed body. Raises Rejected `body_invalid`, `too_large`."""
    body = await request.read()
    if len(body) > size_max:
        raise Rejected("too_large", f"expected at most {size_max} bytes, saw {len(body)}")
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.ValidationError, msgspec.DecodeError) as fault:
        raise Rejected("body_invalid", explain(fault)) from None


def json_answer(value: object) -> web.Response:
    """A value as JSON."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
