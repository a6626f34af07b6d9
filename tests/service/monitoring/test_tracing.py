"""Spans of requests: their contents, the data they must not contain, and their destination."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from model.errors import ConfigError
from service.commands.doctor import examine
from service.http.app import create_app
from service.monitoring.tracing import Tracing
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import FakeTranslator, fake_model, fake_registry

pytestmark = pytest.mark.anyio
TRACE = "0af7651916cd43dd8448eb211c80319c"
SETTINGS = Settings(tracing=True)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Holds the spans of every service started in the test."""
    memory = InMemorySpanExporter()
    monkeypatch.setattr(
        "service.http.app.open_tracing", lambda _: Tracing(SimpleSpanProcessor(memory))
    )
    return memory


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_request_is_a_span_with_its_work_inside(
    serving: Serving, exporter: InMemorySpanExporter
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.post(
            "/v1/translate",
            json={"text": ["one two", "three"], "source": "en", "target": "de"},
            headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-ID": "mine"},
        )
        assert answer.status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
    found = spans(exporter)
    assert found.keys() == {"POST /v1/translate", "wait and decode", "render"}
    request, work = found["POST /v1/translate"], found["wait and decode"]
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/translate",
        "http.response.status_code": 200,
        "dragoman.request_id": "mine",
        "dragoman.model": "en-de",
        "dragoman.num_texts": 2,
        "dragoman.num_characters": len("one twothree"),
    }
    assert request.context.trace_id == work.context.trace_id == int(TRACE, 16)
    assert request.parent is not None
    assert request.parent.span_id == 0xB7AD6B7169203331
    render = found["render"]
    assert work.end_time is not None
    assert render.start_time is not None
    assert render.end_time is not None
    assert work.end_time <= render.start_time < render.end_time
    assert render.parent is not None
    assert render.parent.span_id == request.context.span_id
    assert work.parent is not None
    assert work.parent.span_id == request.context.span_id
    assert request.resource.attributes["service.name"] == "dragoman"


@pytest.mark.parametrize("header", ["", "00-SECRET-SECRET-01", "00-" + "f" * 5000, "\xff"])
async def test_a_broken_traceparent_begins_a_trace_of_its_own(
    serving: Serving, exporter: InMemorySpanExporter, header: str
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        headers = [(b"traceparent", header.encode("latin-1")), (b"tracestate", b"a=SECRET")]
        assert (await client.get("/v1/models", headers=headers)).status_code == 200
    [span] = exporter.get_finished_spans()
    assert span.parent is None
    assert "SECRET" not in span.to_json()


async def test_no_span_holds_data_of_a_request(
    serving: Serving, exporter: InMemorySpanExporter
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        headers = {"Authorization": "DeepL-Auth-Key SECRET", "X-Forwarded-For": "SECRET"}
        for text in ("SECRET", "SECRET POISON"):
            body = {"text": text, "source": "en", "target": "de"}
            await client.post("/v1/translate?q=SECRET", json=body, headers=headers)
        await client.get("/SECRET/path")
        await client.request("SECRET", "/v1/models")
    finished = exporter.get_finished_spans()
    assert len(finished) == 7
    assert not any("SECRET" in span.to_json() for span in finished)
    statuses = [span.status.status_code for span in finished if span.name == "POST /v1/translate"]
    assert statuses == [StatusCode.UNSET, StatusCode.ERROR]  # a fault in the model is ours


async def test_a_client_that_leaves_ends_its_span(
    serving: Serving, exporter: InMemorySpanExporter
) -> None:
    translator = FakeTranslator(delay_s=0.05)
    registry = Registry([fake_model("en-de", SETTINGS, translator=translator)])
    async with serving(registry, SETTINGS) as client:
        body = {"text": "w " * 200, "source": "en", "target": "de"}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.post("/v1/translate", json=body), 0.2)
    assert "POST /v1/translate" in spans(exporter)


async def test_nothing_is_imported_or_made_where_tracing_is_off(
    serving: Serving, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "service.monitoring.tracing", None)
    async with serving(fake_registry(Settings(), "en-de")) as client:
        assert (await client.get("/v1/models")).status_code == 200
    assert not exporter.get_finished_spans()


async def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "service.monitoring.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'dragoman\[tracing\]'"):
        create_app(fake_registry(SETTINGS, "en-de"), SETTINGS)
    monkeypatch.setenv("DRAGOMAN_TRACING", "true")
    findings = {finding.check: finding for finding in examine(tmp_path, "127.0.0.1", 0)}
    assert not findings["settings"].ok
    assert "dragoman[tracing]" in findings["settings"].detail


class Collector(BaseHTTPRequestHandler):
    """Takes spans as a collector does, or hangs."""

    hang = threading.Event()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, CollectorServer)
        self.server.received.append((self.path, content))
        if self.server.hangs:
            self.hang.wait(20)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class CollectorServer(HTTPServer):
    """Keeps what was sent."""

    hangs = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Collector)
        self.received: list[tuple[str, bytes]] = []


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorServer]:
    server = CollectorServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "our-translator")
    yield server
    Collector.hang.set()
    server.shutdown()
    server.server_close()
    thread.join()
    Collector.hang.clear()


async def test_spans_reach_the_collector_before_the_service_ends(
    serving: Serving, collector: CollectorServer
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        body = {"text": "one", "source": "en", "target": "de"}
        assert (await client.post("/v1/translate", json=body)).status_code == 200
    [(path, content)] = collector.received
    assert path == "/v1/traces"
    [sent] = ExportTraceServiceRequest.FromString(content).resource_spans
    names = {span.name for scope in sent.scope_spans for span in scope.spans}
    assert names == {"POST /v1/translate", "wait and decode", "render"}
    assert "our-translator" in str(sent.resource)


async def test_a_hanging_collector_delays_neither_requests_nor_shutdown(
    serving: Serving, collector: CollectorServer
) -> None:
    collector.hangs = True
    started = time.monotonic()
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        body = {"text": "one", "source": "en", "target": "de"}
        assert (await client.post("/v1/translate", json=body)).status_code == 200
    assert time.monotonic() - started < 5
