"""One span and one latency sample per stage of a request.

A class and no generator: a payment passes five stages, and a generator's context costs three times as much.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType

from appliance.model.ids import RequestKey
from appliance.runtime.metrics import Metrics
from appliance.runtime.tracing import Tracer


class Stages:
    """`with stages("screen", key):` around each step of a pipeline."""

    def __init__(self, *, tracer: Tracer, metrics: Metrics) -> None:
        self._tracer = tracer
        self._metrics = metrics

    def __call__(self, stage: str, key: RequestKey | None = None) -> AbstractContextManager[None]:
        """Time the block; a failing stage is timed too."""
        return _Stage(stage, self._tracer.span(stage, key), self._metrics)


class _Stage:
    __slots__ = ("_metrics", "_span", "_stage", "_started")

    def __init__(self, stage: str, span: AbstractContextManager[None], metrics: Metrics) -> None:
        self._stage = stage
        self._span = span
        self._metrics = metrics
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._metrics.stage_took(self._stage, time.perf_counter() - self._started)
        return self._span.__exit__(kind, error, trace)
