"""Irreversible stretches: once begun they run to their end, whoever hangs up.

Between a durable intent and its outcome nothing may be cut by a client's disconnect or a caller's timeout.
Never retries and never decides what an outcome means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from appliance.runtime.supervise import Supervisor

T = TypeVar("T")


async def run_to_completion(supervisor: Supervisor, name: str, work: Callable[[], Awaitable[T]], *, bound_ms: int) -> T:
    """Run `work` as a task of the supervisor's and wait for it, also while being cancelled; then re-raise.

    Args:
        bound_ms: the stretch's own bound. It is not the caller's deadline: that one may pass meanwhile.
    Raises:
        OutcomeUnknown: the bound passed, or the process ended first; recovery owns the effect.
        Unavailable: the process is stopping; nothing was begun.
        CancelledError: the caller was cancelled; raised only after the work has ended.
    """
    result = supervisor.begin(name, work, bound_ms=bound_ms)
    hung_up: asyncio.CancelledError | None = None
    while not result.done():
        try:
            # `wait` neither cancels what it waits for nor raises its error.
            await asyncio.wait({result})
        except asyncio.CancelledError as cancelled:
            hung_up = cancelled
    if hung_up is not None:
        raise hung_up
    return result.result()
