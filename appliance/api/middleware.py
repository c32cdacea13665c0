"""Around every handler: failures become answers, counts are kept, nothing unknown leaks."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from appliance.api.failures import Failures
from appliance.identity.signed import Encoding
from appliance.runtime.metrics import Metrics


def encoding_of(request: web.BaseRequest) -> Encoding:
    """How the request says it is encoded; JSON where it says nothing we know."""
    return Encoding.COSE if request.content_type == Encoding.COSE.value else Encoding.JOSE


def make_middleware(*, failures: Failures, metrics: Metrics) -> Middleware:
    """The one middleware of every door."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        verb = request.match_info.route.name or "unknown"
        try:
            response = await handler(request)
        except Exception as error:  # the last resort of a door, a `Bug` too: nothing of the crash leaves the box
            response = failures.answer(error, verb=verb, encoding=encoding_of(request))
        metrics.request(verb, str(response.status))
        return response

    return outermost
