"""What a request that failed is told, and what else its failure does: a count, a line, the end of the sales.

An error of ours keeps its stable code; what HTTP itself refuses gets one; anything else leaves the box as an opaque 500
whose story is in the log.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from appliance.api.encode import refusal
from appliance.api.problem import opaque_problem, problem_of
from appliance.identity.signed import Encoding
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics


class Failures:
    """Answers failed requests at every door.

    Args:
        on_corrupt: told what our own records disagree about; it stops the sales.
    """

    def __init__(self, *, clock: Clock, log: Log, metrics: Metrics, on_corrupt: Callable[[str], None]) -> None:
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._on_corrupt = on_corrupt

    def answer(self, error: BaseException | None, *, verb: str, encoding: Encoding) -> web.Response:
        """The refusal that `error` calls for; None is an error that the HTTP library does not name."""
        match error:
            case Corrupt():
                self._log.error("records.disagreed", verb=verb, code=error.code, detail=error.detail)
                self._on_corrupt(error.detail)
                return refusal(problem_of(error, self._clock.now_ms()), encoding)
            case Rejected() | Unavailable() | OutcomeUnknown():
                return self._refused(error, verb, encoding)
            case web.HTTPException() | HttpProcessingError():
                return self._refused(_http_refusal(error), verb, encoding)
            case _:
                event_id = secrets.token_hex(8)
                self._log.error("request.crashed", verb=verb, event_id=event_id, error=error)
                return refusal(opaque_problem(event_id, self._clock.now_ms()), encoding)

    def _refused(self, error: Rejected | Unavailable | OutcomeUnknown, verb: str, encoding: Encoding) -> web.Response:
        problem = problem_of(error, self._clock.now_ms())
        self._metrics.refusal(error.code)
        self._log.info("request.refused", verb=verb, code=error.code, status=problem.status)
        return refusal(problem, encoding)


def _http_refusal(error: web.HTTPException | HttpProcessingError) -> Rejected:
    """Never with the library's words: they repeat what the caller sent."""
    match error:
        case LineTooLong():
            return Rejected("head_too_large", "the request line or a header is larger than 8,190 bytes")
        case HttpProcessingError() | web.HTTPExpectationFailed():
            return Rejected("head_malformed", "expected a request as RFC 9112 has it; the connection ends")
        case web.HTTPRequestEntityTooLarge():
            return Rejected("too_large", "the body is larger than this verb takes")
        case web.HTTPMethodNotAllowed():
            return Rejected("method_not_allowed", "this path takes another method")
        case web.HTTPException():
            return Rejected("not_found", "there is nothing at this path")
