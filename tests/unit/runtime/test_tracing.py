"""Spans reach a collector, bound by the payment's key; without a collector nothing happens."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typing_extensions import override

from appliance.config.schema import Otlp
from appliance.model.ids import RequestKey, new_request_key
from appliance.runtime.tracing import SilentTracer, Tracer, open_tracer

KEY: RequestKey = new_request_key(1_790_000_000_000, bytes(range(10)))


class Collector:
    """A local OTLP/HTTP endpoint that keeps what it gets."""

    def __init__(self) -> None:
        bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            @override
            def log_message(self, format: str, *args: object) -> None:
                return

        self.bodies = bodies
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def settings(self) -> Otlp:
        return Otlp(endpoint=f"http://127.0.0.1:{self.server.server_port}/v1/traces")

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def attributes(span: Span) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span.attributes}


def test_spans_of_a_payment_share_the_trace_of_its_key(collector: Collector) -> None:
    tracer = open_tracer(collector.settings, service="test")
    with tracer.span("validate", KEY):
        pass
    with tracer.span("authorise", KEY), tracer.span("provider", KEY):
        pass
    tracer.close()
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"validate", "authorise", "provider"}
    assert {span.trace_id for span in spans.values()} == {KEY.octets}
    assert {attributes(span)["payment.key"] for span in spans.values()} == {str(KEY)}
    assert spans["provider"].parent_span_id == spans["authorise"].span_id


def test_an_error_leaves_its_kind_but_never_its_words(collector: Collector) -> None:
    tracer = open_tracer(collector.settings, service="test")

    def stage() -> None:
        with tracer.span("screen", KEY):
            raise ValueError("planted-secret")

    with pytest.raises(ValueError, match="planted"):
        stage()
    tracer.close()
    assert attributes(collector.spans[0])["error.type"] == "ValueError"
    assert not any(b"planted" in body for body in collector.bodies)


def test_span_without_a_payment_has_a_trace_of_its_own(collector: Collector) -> None:
    tracer = open_tracer(collector.settings, service="test")
    with tracer.span("boot"):
        pass
    tracer.close()
    assert collector.spans[0].trace_id != KEY.octets
    assert attributes(collector.spans[0]) == {}


def test_without_a_collector_every_span_is_the_same_nothing() -> None:
    tracer: Tracer = open_tracer(None, service="test")
    assert isinstance(tracer, SilentTracer)
    assert tracer.span("screen", KEY) is tracer.span("record", KEY)
    with tracer.span("screen", KEY), tracer.span("record", RequestKey(uuid.UUID(str(KEY)))):
        pass
    tracer.close()


def test_without_a_collector_the_sdk_is_never_imported() -> None:
    program = (
        "import sys; from appliance.runtime.tracing import open_tracer; open_tracer(None, service='test');"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
