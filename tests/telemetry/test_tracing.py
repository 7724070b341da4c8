"""Traces: a span for each request, below the client's span, and child spans for database queries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pegboard import Schema, TableResource, fields
from pegboard.api.context import Context
from tests.conftest import Api, Serve, plugin

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Note(Schema):
    text = fields.String(required=True)


class Notes(TableResource):
    """Traced notes."""

    schema = Note
    verbs = "GET", "POST"
    seen: str | None = None

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        Notes.seen = context.traceparent
        if data["text"] == "fail":
            raise RuntimeError("hidden")
        return await super().create(context, data)


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """Return an exporter that stores finished spans."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture(scope="module")
async def api(serve: Serve, exporter: InMemorySpanExporter) -> Api:
    api = await serve([plugin("notes", Notes)], tracing=True)
    await api.get("/notes")
    return api


async def spans(api: Api, exporter: InMemorySpanExporter, method: str, path: str, **options: Any) -> list[ReadableSpan]:
    """Return the spans of one request; the last is that of the request itself."""
    exporter.clear()
    await api.request(method, path, **options)
    return list(exporter.get_finished_spans())


async def test_a_request_is_a_child_span_of_its_clients_span(api: Api, exporter: InMemorySpanExporter) -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "X-Request-Id": "mine", "User-Agent": "tests"}
    *_, span = await spans(api, exporter, "GET", "/notes?limit=3", headers=headers)
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.context.trace_state.get("vendor") == "1"
    assert (span.name, span.kind, span.status.status_code) == ("GET /notes", SpanKind.SERVER, StatusCode.UNSET)
    port = int(api.url.rsplit(":", 1)[1])
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/notes",
        "url.scheme": "http",
        "url.path": "/notes",
        "network.protocol.version": "1.1",
        "network.peer.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "user_agent.original": "tests",
        "pegboard.plugin": "notes",
        "pegboard.request_id": "mine",
    }


async def test_a_request_without_a_trace_starts_one(api: Api, exporter: InMemorySpanExporter) -> None:
    for headers in ({}, {"traceparent": "nonsense"}):
        *_, span = await spans(api, exporter, "GET", "/notes", headers=headers)
        assert span.parent is None


async def test_an_action_can_propagate_its_span(api: Api, exporter: InMemorySpanExporter) -> None:
    headers = {"traceparent": TRACEPARENT}
    *_, span = await spans(api, exporter, "POST", "/notes", json={"text": "one"}, headers=headers)
    assert span.context is not None
    assert Notes.seen == f"00-{TRACE}-{span.context.span_id:016x}-01"


async def test_database_queries_are_child_spans(api: Api, exporter: InMemorySpanExporter) -> None:
    *asked, span = await spans(api, exporter, "GET", "/notes?text=hidden")
    assert span.context is not None
    (query,) = asked
    assert query.parent is not None
    assert query.parent.span_id == span.context.span_id
    attributes = dict(query.attributes or {})
    assert (query.name, query.kind) == ("SELECT", SpanKind.CLIENT)
    assert attributes["db.system.name"] == "postgresql"
    assert "notes" in str(attributes["db.query.text"])
    assert "hidden" not in str(attributes)


@pytest.mark.parametrize(
    ("method", "path", "name", "status", "failed"),
    [
        ("GET", "/nothing", "GET", 404, False),
        ("PROPFIND", "/notes", "HTTP /notes", 501, True),
        ("POST", "/notes", "POST /notes", 500, True),
    ],
)
async def test_only_server_errors_mark_spans_as_errors(
    api: Api, exporter: InMemorySpanExporter, method: str, path: str, name: str, status: int, failed: bool
) -> None:
    *_, span = await spans(api, exporter, method, path, json={"text": "fail"})
    attributes = dict(span.attributes or {})
    assert (span.name, attributes["http.response.status_code"]) == (name, status)
    assert span.status.is_ok is not failed
    assert attributes.get("error.type") == (str(status) if failed else None)
    assert attributes["http.request.method"] == ("_OTHER" if name.startswith("HTTP") else method)
    assert "hidden" not in span.to_json()


async def test_tracing_is_off_by_default(serve: Serve, exporter: InMemorySpanExporter) -> None:
    api = await serve([plugin("notes", Notes)])
    assert await spans(api, exporter, "GET", "/notes", headers={"traceparent": TRACEPARENT}) == []


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code], env=others | variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_opentelemetry_is_loaded_only_when_needed() -> None:
    code = """
import sys
import pegboard.cli
from pegboard.settings import SettingsError
from pegboard.telemetry.tracing import provider
print([name for name in sys.modules if name.startswith("opentelemetry")])
sys.modules["opentelemetry"] = None
try:
    provider()
except SettingsError as error:
    print(error)
"""
    done = run(code)
    assert done.stdout.splitlines() == ["[]", "PEGBOARD_TRACING needs OpenTelemetry: install pegboard[otel]."], (
        done.stderr
    )


def test_missing_tracing_libraries_stop_the_start_with_one_line() -> None:
    done = run(
        "from pegboard.cli import main; main(['serve', '--port', '0'])",
        PEGBOARD_TRACING="true",
        PEGBOARD_LOG_LEVEL="error",
        PEGBOARD_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        OTEL_TRACES_EXPORTER="nowhere",
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "Error: There is no exporter nowhere for traces: install opentelemetry-exporter-nowhere, or "
    )


def test_spans_are_exported_according_to_the_standard_variables() -> None:
    code = """
import os
from pegboard.settings import SettingsError
from pegboard.telemetry.tracing import provider
for number, (variable, value) in enumerate((
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ("OTEL_TRACES_EXPORTER", "console"),
    ("OTEL_TRACES_EXPORTER", "none"),
    ("OTEL_SDK_DISABLED", "true"),
)):
    os.environ[variable] = value
    try:
        made, end = provider()
    except SettingsError as error:
        print(error)
    else:
        made.get_tracer("t").start_span(f"seen {number}").end()
        end()
"""
    done = run(code, OTEL_SERVICE_NAME="mine", OTEL_RESOURCE_ATTRIBUTES="a=b")
    first, second, *rest = done.stdout.splitlines()
    assert "install opentelemetry-exporter-otlp-proto-grpc" in first
    assert "install opentelemetry-exporter-otlp-proto-http" in second
    (span,) = [json.loads("\n".join(rest))]
    assert (span["name"], span["resource"]["attributes"]["service.name"]) == ("seen 2", "mine")
    assert span["resource"]["attributes"]["a"] == "b"
