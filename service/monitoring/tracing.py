"""Traces requests with OpenTelemetry; imported only if DRAGOMAN_TRACING is on.

A span holds the same as the log line of its request: route, status, model and sizes; never text,
keys or addresses. OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT) set its destination.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.errors import ConfigError
from service.request_context import RequestRecord, context_of

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError(
        f"tracing is on (DRAGOMAN_TRACING), but {error.name} is not installed: "
        "pip install 'dragoman[tracing]', or turn it off"
    ) from None

# Health probes and Prometheus request these every few seconds; their traces are not useful.
_UNTRACED = ("/health/", "/metrics")


class Tracing:
    """Makes spans of requests and sends them to the collector."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        self._processor = processor or BatchSpanProcessor(OTLPSpanExporter())
        # The provider's own shutdown takes up to 30 s if the collector hangs; `close` has a limit.
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self.tracer = provider.get_tracer("dragoman")

    def trace(self, app: Starlette) -> None:
        """Traces an application's requests, inside of all middleware that is added later."""
        app.add_middleware(TraceRequests, tracer=self.tracer)

    def close(self, timeout_s: float) -> None:
        """Sends the remaining spans, within `timeout_s`."""
        thread = threading.Thread(target=self._processor.shutdown, daemon=True)
        thread.start()
        thread.join(timeout_s)


class TraceRequests:
    """ASGI middleware that makes a span for each request and its stages; outside of RequestLog."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNTRACED):
            await self.app(scope, receive, send)
            return
        context = context_of(scope)
        # Only the ids are taken over: `tracestate` may hold any text.
        carrier = {"traceparent": Headers(scope=scope).get("traceparent", "")}
        caller = TraceContextTextMapPropagator().extract(carrier)
        span = self._tracer.start_span("request", context=caller, kind=SpanKind.SERVER)
        inside = set_span_in_context(span)

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            # An error's message may quote the text it failed on.
            with self._tracer.start_as_current_span(
                name, context=inside, record_exception=False, set_status_on_exception=False
            ):
                yield

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._trace_rendering(context.record, inside)
            await send(message)

        context.stage = stage
        try:
            await self.app(scope, receive, send_traced)
        finally:
            _describe(span, context.record)
            span.end()

    def _trace_rendering(self, record: RequestRecord, inside: Context) -> None:
        """Makes the span of rendering the answer, which ends now."""
        if record.render_seconds > 0:
            now = time.time_ns()
            started = now - round(record.render_seconds * 1e9)
            self._tracer.start_span("render", context=inside, start_time=started).end(now)


def _describe(span: Span, record: RequestRecord) -> None:
    span.update_name(f"{record.method} {record.route}")
    span.set_attributes(
        {
            "http.request.method": record.method,
            "http.route": record.route,
            "dragoman.request_id": record.request_id,
            "dragoman.model": record.model,
            "dragoman.num_texts": record.num_texts,
            "dragoman.num_characters": record.num_characters,
        }
    )
    if record.status is None:
        span.set_attribute("dragoman.client_gone", True)
    else:
        span.set_attribute("http.response.status_code", record.status)
        if record.status >= 500:
            span.set_status(StatusCode.ERROR)


def _resource() -> Resource:
    """Our name and version, which OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES can override."""
    ours = {"service.name": "dragoman"}
    with suppress(PackageNotFoundError):  # run from its source folder
        ours["service.version"] = version("dragoman")
    return Resource.create(ours).merge(OTELResourceDetector().detect())
