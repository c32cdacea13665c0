"""Around every handler: refusals become problems, counts are kept, nothing unknown leaks."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from appliance.api.encode import refusal
from appliance.api.problem import opaque_problem, problem_of
from appliance.identity.signed import Encoding
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics


def encoding_of(request: web.Request) -> Encoding:
    """How the request says it is encoded; JSON where it says nothing we know."""
    return Encoding.COSE if request.content_type == Encoding.COSE.value else Encoding.JOSE


def make_middleware(*, clock: Clock, log: Log, metrics: Metrics, on_corrupt: Callable[[str], None]) -> Middleware:
    """The one middleware of every door.

    Args:
        on_corrupt: told what our own records disagree about; it stops the sales.
    """

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        verb = request.match_info.route.name or "unknown"
        try:
            response = await handler(request)
        except (Rejected, Unavailable, OutcomeUnknown) as error:
            problem = problem_of(error, clock.now_ms())
            metrics.refusal(error.code)
            log.info("request.refused", verb=verb, code=error.code, status=problem.status)
            response = refusal(problem, encoding_of(request))
        except Corrupt as error:
            log.error("records.disagreed", verb=verb, code=error.code, detail=error.detail)
            on_corrupt(error.detail)
            response = refusal(problem_of(error, clock.now_ms()), encoding_of(request))
        except web.HTTPException as error:
            response = refusal(problem_of(_http_refusal(error), clock.now_ms()), encoding_of(request))
        except Exception as crash:  # the last resort of a door, a `Bug` too: nothing of the crash leaves the box
            event_id = secrets.token_hex(8)
            log.error("request.crashed", verb=verb, event_id=event_id, error=crash)
            response = refusal(opaque_problem(event_id, clock.now_ms()), encoding_of(request))
        metrics.request(verb, str(response.status))
        return response

    return outermost


def _http_refusal(error: web.HTTPException) -> Rejected:
    if error.status == 413:
        return Rejected("too_large", "the body is larger than this verb takes")
    if error.status == 405:
        return Rejected("method_not_allowed", "this path takes another method")
    return Rejected("not_found", "there is nothing at this path")
