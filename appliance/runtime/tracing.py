"""One span per stage, made by hand; nothing at all when no collector is configured.

The payment's key is the trace: its 16 bytes are the trace id, so that every span of a payment, also one of a later
resolution after a restart, lies in the same trace. Spans hold a stage, a key and the kind of an error; never its words,
because they may quote what a customer or a provider said.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override

from appliance.config.schema import Otlp
from appliance.model.ids import RequestKey

if TYPE_CHECKING:
    # Loading the SDK costs 0.2 s and 20 MB, so only a configured collector makes us import it.
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

QUEUE_SPANS_MAX: Final = 2_048
BATCH_SPANS_MAX: Final = 512
EXPORT_EVERY_MS: Final = 2_000
EXPORT_MS_MAX: Final = 5_000

_NOTHING: Final = nullcontext()


class Tracer(Protocol):
    """What a stage needs: `with tracer.span("authorise", key):`."""

    def span(self, stage: str, key: RequestKey | None = None) -> AbstractContextManager[None]:
        """Time the block. An error leaves its type on the span and passes through."""
        ...

    def close(self) -> None:
        """Send what waits; blocks for at most `EXPORT_MS_MAX`, so it is the last thing a process does."""
        ...


def open_tracer(settings: Otlp | None, *, service: str) -> Tracer:
    """The tracer that the settings ask for; `service` names this box in the collector."""
    return SilentTracer() if settings is None else OtlpTracer(settings, service=service)


class SilentTracer(Tracer):
    """Every span is the same object that does nothing."""

    __slots__ = ()

    @override
    def span(self, stage: str, key: RequestKey | None = None) -> AbstractContextManager[None]:
        return _NOTHING

    @override
    def close(self) -> None:
        return None


class OtlpTracer(Tracer):
    """Sends spans to an OTLP/HTTP collector from a thread of the SDK's; when its queue is full, spans are dropped."""

    def __init__(self, settings: Otlp, *, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # Not `Resource.create`, which reads the environment: settings have one source.
        provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_MS_MAX / 1_000)
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=QUEUE_SPANS_MAX,
                max_export_batch_size=BATCH_SPANS_MAX,
                schedule_delay_millis=EXPORT_EVERY_MS,
                export_timeout_millis=EXPORT_MS_MAX,
            )
        )
        self._provider: TracerProvider = provider
        self._tracer = provider.get_tracer("tillstone")

    @override
    def span(self, stage: str, key: RequestKey | None = None) -> AbstractContextManager[None]:
        return self._span(stage, key)

    @override
    def close(self) -> None:
        self._provider.shutdown()

    @contextmanager
    def _span(self, stage: str, key: RequestKey | None) -> Iterator[None]:
        from opentelemetry.trace import get_current_span

        # Inside another span the new one is its child; the first span of a payment hangs under the payment's key.
        is_nested = get_current_span().get_span_context().is_valid
        context = None if key is None or is_nested else _context_of(key)
        attributes = {} if key is None else {"payment.key": str(key)}
        with self._tracer.start_as_current_span(
            stage, context=context, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                _mark(span, error)
                raise


def _context_of(key: RequestKey) -> Context:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    # The low 64 bits of a UUIDv7 start with its variant, so they are never the forbidden zero.
    parent = SpanContext(
        trace_id=key.value.int,
        span_id=key.value.int & (2**64 - 1),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(parent))


def _mark(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", type(error).__name__)
