"""Traces by OpenTelemetry, which is imported only if enabled: spans of requests and of their statements."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any

import asyncpg
from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard.http.request import METHODS, STATE, raw_path
from pegboard.postgres.pool import Pool
from pegboard.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_GROUP = "opentelemetry_traces_exporter"
_PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_OTHER = "_OTHER"


def check() -> None:
    """Raise `SettingsError` if OpenTelemetry, or a configured exporter, is not installed."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        raise SettingsError("PEGBOARD_TRACING needs OpenTelemetry: install pegboard[otel].") from None
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        for name in _exporter_names():
            _exporter(name)


def provider() -> tuple[TracerProvider, Callable[[], object]]:
    """Return a provider of tracers, configured by the standard variables (`OTEL_*`), and the function that closes it.

    If the process already has one, as under `opentelemetry-instrument`, that is returned, and closing only flushes it.
    Raises `SettingsError` as `check` does.
    """
    check()
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    present = trace.get_tracer_provider()
    if isinstance(present, TracerProvider):
        return present, present.force_flush
    resource_attributes = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or "pegboard",
        "service.version": version("pegboard"),
    }
    tracer_provider = TracerProvider(resource=Resource.create(resource_attributes))
    for name in _exporter_names():
        tracer_provider.add_span_processor(BatchSpanProcessor(_exporter(name).load()()))
    return tracer_provider, tracer_provider.shutdown


def _exporter_names() -> list[str]:
    names = (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")
    return [name.strip() for name in names if name.strip() != "none"]


def _exporter(name: str) -> EntryPoint:
    """Return the entry point of an exporter by its name in `OTEL_TRACES_EXPORTER`; it reads its own variables."""
    if name == "otlp":
        variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = next((os.environ[each] for each in variables if os.environ.get(each)), "http/protobuf")
        name = _PROTOCOLS.get(protocol, protocol)
    points = entry_points(group=_GROUP, name=name)
    if not points:
        package = f"opentelemetry-exporter-{name.replace('_', '-')}"
        raise SettingsError(f"There is no exporter {name} for traces: install {package}, or set OTEL_TRACES_EXPORTER.")
    return next(iter(points))


@web.middleware
class Tracing:
    """Create a span for each request, by OpenTelemetry's conventions for HTTP 1.x; a middleware.

    The span belongs to the trace in the request's `traceparent`, and is the parent of the spans created while the
    request is handled. It contains no query, headers or bodies.
    """

    def __init__(self, provider: TracerProvider, end: Callable[[], object]) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._end = end
        self._tracer = provider.get_tracer("pegboard", version("pegboard"))
        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request within its span."""
        span = self._tracer.start_span(
            _method(request),
            self._parent(request),
            self._trace.SpanKind.SERVER,
            attributes=_request_attributes(request),
        )
        token = self._context.attach(self._trace.set_span_in_context(span))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        state = request[STATE]
        state.traceparent = carrier.get("traceparent", state.traceparent)
        try:
            response = await handler(request)
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(self._trace.StatusCode.ERROR)
            raise
        else:
            self._record_response(span, request, response)
            return response
        finally:
            self._context.detach(token)
            span.end()

    async def close(self) -> None:
        """Send the spans that have not been sent."""
        await asyncio.to_thread(self._end)

    def pools(self) -> Callable[..., Pool]:
        """Return a factory of pools that create a span for each use."""
        tracer, kind = self._tracer, self._trace.SpanKind.CLIENT

        def span(operation: str, sql: str | None = None) -> AbstractContextManager[Span]:
            attributes = {"db.system.name": "postgresql", "db.operation.name": operation}
            if sql is not None:
                attributes["db.query.text"] = sql
            return tracer.start_as_current_span(operation, kind=kind, attributes=attributes, record_exception=False)

        def pool(*args: Any, **options: Any) -> Pool:
            return TracedPool(span, *args, **options)

        return pool

    def _parent(self, request: web.Request) -> Any:
        traceparent = request[STATE].traceparent
        carrier = {"traceparent": traceparent} if traceparent is not None else {}
        states = request.headers.getall("tracestate", ())
        if states:
            carrier["tracestate"] = ",".join(states)
        return self._propagator.extract(carrier, self._context.Context())

    def _record_response(self, span: Span, request: web.Request, response: web.StreamResponse) -> None:
        if not span.is_recording():
            return
        path = request[STATE].path
        if path.template:
            span.update_name(f"{_method(request)} {path.template}")
            span.set_attribute("http.route", path.template)
        if path.plugin:
            span.set_attribute("pegboard.plugin", path.plugin)
        span.set_attribute("http.response.status_code", response.status)
        if response.status >= 500:
            # By the conventions, a 4xx is not an error of a server's span.
            span.set_attribute("error.type", str(response.status))
            span.set_status(self._trace.StatusCode.ERROR)


class TracedPool(Pool):
    """Create a span for each use of a pool: `span` takes the operation and the statement, if there is one."""

    def __init__(self, span: Callable[..., AbstractContextManager[Span]], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._span = span

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        with self._span(_operation(sql), sql):
            return await super().fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        with self._span(_operation(sql), sql):
            return await super().fetchrow(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or several without `args`, and return the status of the last."""
        with self._span(_operation(sql), sql):
            return await super().execute(sql, *args)

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Return a context manager for a transaction, which is one span."""
        return self._traced(super().transaction())

    @asynccontextmanager
    async def _traced(
        self, transaction: AbstractAsyncContextManager[asyncpg.Connection]
    ) -> AsyncIterator[asyncpg.Connection]:
        with self._span("TRANSACTION"):
            async with transaction as connection:
                yield connection


def _operation(sql: str) -> str:
    return sql.split(None, 1)[0].upper() if sql.strip() else "QUERY"


def _method(request: web.Request) -> str:
    return request.method if request.method in METHODS else "HTTP"


def _request_attributes(request: web.Request) -> Mapping[str, str | int]:
    """Return the attributes of a request that the conventions require, as far as they are known."""
    is_standard = request.method in METHODS
    host, _, port = request.host.rpartition(":") if request.host[-1:].isdigit() else (request.host, "", "")
    version = request.version
    attributes: dict[str, str | int] = {
        "http.request.method": request.method if is_standard else _OTHER,
        "url.scheme": request.scheme,
        "url.path": raw_path(request),
        "network.protocol.version": f"{version.major}.{version.minor}",
        "server.address": host or request.host,
        "pegboard.request_id": request[STATE].id,
    }
    if not is_standard:
        attributes["http.request.method_original"] = request.method
    if port.isdigit() and host:
        attributes["server.port"] = int(port)
    if request.remote is not None:
        attributes["network.peer.address"] = request.remote
    agent = request.headers.get("User-Agent")
    if agent is not None:
        attributes["user_agent.original"] = agent
    return attributes
