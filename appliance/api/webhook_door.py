"""The door of the relay that brings a provider's webhooks: raw body and headers in, yes or no out.

Plain HTTP, loopback by default: what counts is the provider's signature over the bytes, checked here again. Must never
read more than `WEBHOOK_BYTES_MAX`, wait for a slow sender, or say why anything about money is so.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from appliance.api.rate_limit import TokenBucket
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderName
from appliance.model.limits import WEBHOOK_BYTES_MAX
from appliance.payment.webhooks import Webhooks
from appliance.ports.clock import Clock

BODY_S_MAX: Final = 10.0
PER_SECOND: Final = 100
BURST: Final = 500


class WebhookDoor:
    """POST /v1/webhooks/PROVIDER."""

    def __init__(self, *, provider: ProviderName, webhooks: Webhooks, clock: Clock) -> None:
        self._provider = provider
        self._webhooks = webhooks
        self._bucket = TokenBucket(per_second=PER_SECOND, burst=BURST, clock=clock)

    def application(self, middleware: Middleware) -> web.Application:
        """The aiohttp application of this door."""
        application = web.Application(middlewares=[middleware], client_max_size=WEBHOOK_BYTES_MAX)
        application.router.add_post(f"/v1/webhooks/{self._provider}", self._take, name="webhook")
        return application

    async def _take(self, request: web.Request) -> web.Response:
        try:
            self._bucket.take()
            body = await read_raw(request)
        except Rejected as refusal:
            self._webhooks.refused(refusal)
            raise
        self._webhooks.take(body, {name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"received": True})


async def read_raw(request: web.Request) -> bytes:
    """The body, byte for byte. Raises Rejected `too_large` or `body_incomplete`."""
    if (request.content_length or 0) > WEBHOOK_BYTES_MAX:
        raise Rejected("too_large", f"expected at most {WEBHOOK_BYTES_MAX} bytes, saw {request.content_length}")
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Rejected("too_large", f"expected at most {WEBHOOK_BYTES_MAX} bytes") from None
    except TimeoutError:
        raise Rejected("body_incomplete", f"expected the whole body within {BODY_S_MAX:.0f} s") from None
