"""One span and one latency sample per stage of a request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.model.ids import RequestKey
from appliance.runtime.metrics import Metrics
from appliance.runtime.tracing import Tracer


class Stages:
    """`with stages("screen", key):` around each step of a pipeline."""

    def __init__(self, *, tracer: Tracer, metrics: Metrics) -> None:
        self._tracer = tracer
        self._metrics = metrics

    @contextmanager
    def __call__(self, stage: str, key: RequestKey | None = None) -> Iterator[None]:
        """Time the block; a failing stage is timed too."""
        started = time.perf_counter()
        try:
            with self._tracer.span(stage, key):
                yield
        finally:
            self._metrics.stage_took(stage, time.perf_counter() - started)
